# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "adopt_state_bucket" {
  description = "Whether the bucket of the states exists and is imported"
  type        = bool
  nullable    = false
}

variable "apply_account" {
  description = "Id of the service account that applies"
  type        = string
  nullable    = false
}

variable "github_owner_id" {
  description = "Numeric id of the owner of the GitHub repository"
  type        = string
  nullable    = false
}

variable "github_repository" {
  description = "GitHub repository that may deploy, owner/name, empty for none"
  type        = string
  nullable    = false
}

variable "github_repository_id" {
  description = "Numeric id of the GitHub repository"
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

variable "plan_account" {
  description = "Id of the service account that plans and may only read"
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

variable "state_bucket" {
  description = "Bucket of the Terraform states, empty when they are in a folder"
  type        = string
  nullable    = false
}
