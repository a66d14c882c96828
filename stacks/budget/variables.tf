# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "billing_account" {
  description = "Billing account of the project"
  type        = string
  nullable    = false
}

variable "budget_amount" {
  description = "Budget of a month, in budget_currency"
  type        = number
  nullable    = false
}

variable "budget_currency" {
  description = "Currency of the billing account"
  type        = string
  nullable    = false
}

variable "budget_emails" {
  description = "Who gets the mails about the budget"
  type        = list(string)
  nullable    = false
}

variable "budget_thresholds" {
  description = "Parts of the budget at which mails are sent"
  type        = list(number)
  nullable    = false
}

variable "environment" {
  description = "Name of the environment"
  type        = string
  nullable    = false
}

variable "labels" {
  description = "Labels of every resource that can have them"
  type        = map(string)
  nullable    = false
}

variable "name" {
  description = "Name of the declaration, the prefix of every resource"
  type        = string
  nullable    = false
}

variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of everything that has one"
  type        = string
  nullable    = false
}
