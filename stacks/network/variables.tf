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

variable "network" {
  description = "Name of the VPC"
  type        = string
  nullable    = false
}

variable "network_cidr" {
  description = "Addresses of the nodes"
  type        = string
  nullable    = false
}

variable "pods_cidr" {
  description = "Addresses of the pods"
  type        = string
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

variable "router" {
  description = "Name of the router of the NAT"
  type        = string
  nullable    = false
}

variable "services_cidr" {
  description = "Addresses of the services"
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
