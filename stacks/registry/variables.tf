# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

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

variable "registry" {
  description = "Name of the Artifact Registry repository"
  type        = string
  nullable    = false
}
