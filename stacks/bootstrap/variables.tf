variable "adopt_state_bucket" {
  type        = bool
  description = "Whether the state bucket exists already and is imported instead of created"
}

variable "apply_account" {
  type        = string
  description = "Account id of the identity that applies"
}

variable "github_owner_id" {
  type        = string
  description = "Numeric id of the owner of the GitHub repository"
}

variable "github_repository" {
  type        = string
  description = "GitHub repository, owner/name, whose workflows may plan and apply; empty for none"
}

variable "github_repository_id" {
  type        = string
  description = "Numeric id of the GitHub repository"
}

variable "labels" {
  type        = map(string)
  description = "Labels of every resource that can have some"
}

variable "name" {
  type        = string
  description = "Name of the declaration; prefix of every resource"
}

variable "plan_account" {
  type        = string
  description = "Account id of the identity that plans"
}

variable "project" {
  type        = string
  description = "Id of the Google Cloud project"
}

variable "region" {
  type        = string
  description = "Region of every regional resource"
}

variable "state_bucket" {
  type        = string
  description = "Bucket of the Terraform states; empty when states are kept in a folder"
}
