variable "api_consumers" {
  description = "Names of those who get an API key"
  type        = list(string)
}

variable "gateway" {
  description = "Id of the gateway"
  type        = string
}

variable "gateway_account" {
  description = "Account id of the identity of the gateway"
  type        = string
}

variable "gateway_api" {
  description = "Id of the API in API Gateway"
  type        = string
}

variable "gateway_document" {
  description = "OpenAPI document made from the declaration"
  type        = string
}

variable "labels" {
  description = "Labels of every resource"
  type        = map(string)
}

variable "name" {
  description = "The declaration's name, the prefix of every resource"
  type        = string
}

variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Region of the environment"
  type        = string
}
