variable "cluster" {
  type        = string
  description = "Name of the GKE cluster"
}

variable "deletion_protection" {
  type        = bool
  description = "Whether Terraform refuses to delete what holds data or serves"
}

variable "labels" {
  type        = map(string)
  description = "Labels of every resource that can have some"
}

variable "maintenance_recurrence" {
  type        = string
  description = "When the maintenance window recurs, an RFC 5545 RRULE"
}

variable "maintenance_start" {
  type        = string
  description = "Start of the first maintenance window, RFC 3339"
}

variable "name" {
  type        = string
  description = "Name of the declaration; prefix of every resource"
}

variable "network" {
  type        = string
  description = "Name of the VPC"
}

variable "node_account" {
  type        = string
  description = "Account id of the nodes"
}

variable "node_machine_type" {
  type        = string
  description = "Machine type of the nodes"
}

variable "node_max" {
  type        = number
  description = "Most nodes in each zone"
}

variable "node_min" {
  type        = number
  description = "Fewest nodes in each zone"
}

variable "pods_range" {
  type        = string
  description = "Name of the secondary range of pods"
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

variable "release_channel" {
  type        = string
  description = "GKE release channel: RAPID, REGULAR, STABLE or EXTENDED"
}

variable "services_range" {
  type        = string
  description = "Name of the secondary range of Kubernetes services"
}

variable "subnetwork" {
  type        = string
  description = "Name of the subnet"
}
