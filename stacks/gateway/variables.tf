# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "api_consumers" {
  description = "Names of the consumers, with an API key each"
  type        = list(string)
  nullable    = false
}

variable "gateway" {
  description = "Id of the gateway"
  type        = string
  nullable    = false
}

variable "gateway_account" {
  description = "Id of the service account of the gateway"
  type        = string
  nullable    = false
}

variable "gateway_api" {
  description = "Id of the gateway's API"
  type        = string
  nullable    = false
}

variable "gateway_document" {
  description = "OpenAPI document of the gateway, YAML"
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
