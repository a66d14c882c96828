variable "labels" {
  type        = map(string)
  description = "Labels of every resource that can have some"
}

variable "name" {
  type        = string
  description = "Name of the declaration; prefix of every resource"
}

variable "network" {
  type        = string
  description = "Name of the VPC"
}

variable "network_cidr" {
  type        = string
  description = "Range of the nodes"
}

variable "pods_cidr" {
  type        = string
  description = "Range of the pods"
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

variable "router" {
  type        = string
  description = "Name of the Cloud Router"
}

variable "services_cidr" {
  type        = string
  description = "Range of the Kubernetes services"
}

variable "services_range" {
  type        = string
  description = "Name of the secondary range of Kubernetes services"
}

variable "subnetwork" {
  type        = string
  description = "Name of the subnet"
}
