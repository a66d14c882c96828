# Generated from contract.yaml by `latamctl stacks check --write`; change that file.

variable "backup_retention_days" {
  description = "Days for which backups of the tables are kept"
  type        = number
  nullable    = false
}

variable "bigtable_cpu_target" {
  description = "CPU load in percent that a Bigtable cluster grows and shrinks towards"
  type        = number
  nullable    = false
}

variable "bigtable_instance" {
  description = "Id of the Bigtable instance"
  type        = string
  nullable    = false
}

variable "bigtable_max_nodes" {
  description = "Most nodes of a Bigtable cluster"
  type        = number
  nullable    = false
}

variable "bigtable_min_nodes" {
  description = "Fewest nodes of a Bigtable cluster"
  type        = number
  nullable    = false
}

variable "bigtable_storage" {
  description = "Storage of the Bigtable clusters, SSD or HDD"
  type        = string
  nullable    = false
}

variable "bigtable_zones" {
  description = "Zones with a Bigtable cluster each"
  type        = list(string)
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
