variable "billing_account" {
  type        = string
  description = "Id of the billing account that pays for the project"
}

variable "budget_amount" {
  type        = number
  description = "Budget of a month, in budget_currency"
}

variable "budget_currency" {
  type        = string
  description = "ISO 4217 code of the currency of the billing account"
}

variable "budget_emails" {
  type        = list(string)
  description = "Addresses that get the alerts, besides the administrators of the billing account"
}

variable "budget_thresholds" {
  type        = list(number)
  description = "Fractions of the budget at which an alert is sent"
}

variable "environment" {
  type        = string
  description = "Name of the environment"
}

variable "labels" {
  type        = map(string)
  description = "Labels of every resource that can have some"
}

variable "name" {
  type        = string
  description = "Name of the declaration; prefix of every resource"
}

variable "project" {
  type        = string
  description = "Id of the Google Cloud project"
}

variable "region" {
  type        = string
  description = "Region of every regional resource"
}
