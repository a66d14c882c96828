# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "cluster" {
  description = "Name of the GKE cluster"
  type        = string
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether what holds data refuses to be deleted"
  type        = bool
  nullable    = false
}

variable "labels" {
  description = "Labels of every resource that can have them"
  type        = map(string)
  nullable    = false
}

variable "maintenance_recurrence" {
  description = "When the maintenance window comes again, RFC 5545"
  type        = string
  nullable    = false
}

variable "maintenance_start" {
  description = "Start of the first maintenance window, RFC 3339"
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the declaration, the prefix of every resource"
  type        = string
  nullable    = false
}

variable "network" {
  description = "Name of the VPC"
  type        = string
  nullable    = false
}

variable "node_account" {
  description = "Id of the service account of the nodes"
  type        = string
  nullable    = false
}

variable "node_machine_type" {
  description = "Machine type of the nodes"
  type        = string
  nullable    = false
}

variable "node_max" {
  description = "Most nodes in a zone"
  type        = number
  nullable    = false
}

variable "node_min" {
  description = "Fewest nodes in a zone"
  type        = number
  nullable    = false
}

variable "pods_range" {
  description = "Name of the subnet's range of pods"
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

variable "release_channel" {
  description = "GKE release channel"
  type        = string
  nullable    = false
}

variable "services_range" {
  description = "Name of the subnet's range of services"
  type        = string
  nullable    = false
}

variable "subnetwork" {
  description = "Name of the subnet of the nodes"
  type        = string
  nullable    = false
}
