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

variable "registry" {
  type        = string
  description = "Name of the Artifact Registry repository"
}
