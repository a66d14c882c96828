variable "address" {
  description = "Name of the global address"
  type        = string
}

variable "backend_host" {
  description = "DNS name under which the gateway reaches serve"
  type        = string
}

variable "bigquery_dataset" {
  description = "Id of the BigQuery dataset"
  type        = string
}

variable "bigtable_instance" {
  description = "Id of the Bigtable instance"
  type        = string
}

variable "datasets" {
  description = "The datasets of the declaration, by name"
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
}

variable "dns_zone" {
  description = "Cloud DNS managed zone of the name; empty leaves the record to you"
  type        = string
}

variable "ingest_account" {
  description = "Account id of the identity of ingest"
  type        = string
}

variable "labels" {
  description = "Labels of every resource"
  type        = map(string)
}

variable "name" {
  description = "The declaration's name, the prefix of every resource"
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the services"
  type        = string
}

variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Region of the environment"
  type        = string
}

variable "serve_account" {
  description = "Account id of the identity of serve"
  type        = string
}
