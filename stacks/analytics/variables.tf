variable "bigquery_dataset" {
  description = "Id of the BigQuery dataset"
  type        = string
}

variable "bigquery_location" {
  description = "Location of the BigQuery dataset"
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

variable "dead_letter_attempts" {
  description = "Deliveries after which a message goes to the dead-letter topic"
  type        = number
}

variable "deletion_protection" {
  description = "Whether what holds data refuses its deletion"
  type        = bool
}

variable "labels" {
  description = "Labels of every resource"
  type        = map(string)
}

variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Region of the environment"
  type        = string
}
