# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "address" {
  description = "Name of the global address of serve"
  type        = string
  nullable    = false
}

variable "backend_host" {
  description = "DNS name under which the gateway reaches serve"
  type        = string
  nullable    = false
}

variable "bigquery_dataset" {
  description = "Id of the BigQuery dataset"
  type        = string
  nullable    = false
}

variable "bigtable_instance" {
  description = "Id of the Bigtable instance"
  type        = string
  nullable    = false
}

variable "datasets" {
  description = "The declared datasets with the names of all that is made for them"
  type = map(object({
    topic                             = string
    subscription                      = string
    dead_letter_topic                 = string
    dead_letter_subscription          = string
    bigquery_subscription             = string
    bigquery_dead_letter_topic        = string
    bigquery_dead_letter_subscription = string
    table                             = string
    index_tables                      = list(string)
    retention_seconds                 = number
    split_keys                        = list(string)
    columns = list(object({
      name        = string
      type        = string
      mode        = string
      description = string
    }))
    key               = list(string)
    time              = string
    bigquery_table    = string
    bigquery_view     = string
    bigquery_external = string
  }))
  nullable = false
}

variable "dns_zone" {
  description = "Cloud DNS managed zone for the record of backend_host, empty when it is made elsewhere"
  type        = string
  nullable    = false
}

variable "ingest_account" {
  description = "Id of the service account of ingest"
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

variable "namespace" {
  description = "Kubernetes namespace of the services"
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

variable "serve_account" {
  description = "Id of the service account of serve"
  type        = string
  nullable    = false
}
