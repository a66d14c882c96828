# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "cluster" {
  description = "Name of the GKE cluster"
  type        = string
  nullable    = false
}

variable "cluster_ca" {
  description = "CA certificate of the control plane; empty because a public authority signs the DNS endpoint"
  type        = string
  nullable    = false
}

variable "cluster_endpoint" {
  description = "Host name of the DNS endpoint of the control plane"
  type        = string
  nullable    = false
}

variable "datadog_app_secret" {
  description = "Name of the Kubernetes Secret with the app-key by which the Cluster Agent reads metrics for autoscalers, empty when none does"
  type        = string
  nullable    = false
}

variable "datadog_integration_email" {
  description = "Datadog's service account that reads the project's metrics, empty for none"
  type        = string
  nullable    = false
}

variable "datadog_secret" {
  description = "Name of the Kubernetes Secret with Datadog's api-key"
  type        = string
  nullable    = false
}

variable "datadog_site" {
  description = "Datadog site"
  type        = string
  nullable    = false
}

variable "environment" {
  description = "Name of the environment"
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
