variable "cluster" {
  type        = string
  description = "Name of the GKE cluster"
}

variable "cluster_ca" {
  type        = string
  description = "CA certificate of the control plane, base64 PEM; empty when a public authority signs it"
}

variable "cluster_endpoint" {
  type        = string
  description = "Host name of the DNS endpoint of the control plane"
}

variable "datadog_integration_email" {
  type        = string
  description = "Service account of Datadog that impersonates ours; empty for no integration"
}

variable "datadog_secret" {
  type        = string
  description = "Name of the Kubernetes Secret with the Datadog api-key"
}

variable "datadog_site" {
  type        = string
  description = "Datadog site, such as datadoghq.com"
}

variable "environment" {
  type        = string
  description = "Name of the environment"
}

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
