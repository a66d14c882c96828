variable "backup_retention_days" {
  description = "How long the daily backups are kept; 0 makes none"
  type        = number
}

variable "bigtable_cpu_target" {
  description = "CPU use in percent that Bigtable scales to"
  type        = number
}

variable "bigtable_instance" {
  description = "Id of the Bigtable instance"
  type        = string
}

variable "bigtable_max_nodes" {
  description = "Most nodes of a Bigtable cluster"
  type        = number
}

variable "bigtable_min_nodes" {
  description = "Fewest nodes of a Bigtable cluster"
  type        = number
}

variable "bigtable_storage" {
  description = "Storage of the Bigtable clusters, SSD or HDD"
  type        = string
}

variable "bigtable_zones" {
  description = "Zones with a Bigtable cluster each"
  type        = list(string)
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

variable "deletion_protection" {
  description = "Whether what holds data refuses its deletion"
  type        = bool
}

variable "labels" {
  description = "Labels of every resource"
  type        = map(string)
}

variable "name" {
  description = "The declaration's name, the prefix of every resource"
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
