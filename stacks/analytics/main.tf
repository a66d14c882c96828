locals {
  day = 24 * 3600

  # What Pub/Sub writes beside the fields. The view needs the last two to tell which record is newest. They
  # come first, so that a new field is a new column at the end.
  metadata = [
    { name = "subscription_name", type = "STRING", mode = "NULLABLE", description = "Subscription that wrote the row" },
    { name = "attributes", type = "JSON", mode = "NULLABLE", description = "Attributes of the message" },
    { name = "publish_time", type = "TIMESTAMP", mode = "NULLABLE", description = "When Pub/Sub received the message" },
    { name = "message_id", type = "STRING", mode = "NULLABLE", description = "Id of the message" },
  ]

  # BigQuery adds only columns to a table that may be missing. So only those of the key and the time,
  # which are there from the start, are required.
  columns = { for name, dataset in var.datasets : name => [for column in dataset.columns : {
    name        = column.name
    type        = column.type
    mode        = contains(dataset.key, column.name) || column.name == dataset.time ? "REQUIRED" : "NULLABLE"
    description = column.description
  }] }

  types = { for name, dataset in var.datasets : name => { for column in dataset.columns : column.name => column.type } }

  # A stream may write to partitions by a column at most 10 years back, and what is older is refused. So
  # a table is partitioned by its event time where the retention keeps out what is older, and by the time
  # of publishing where it does not.
  by_event_time = { for name, dataset in var.datasets : name =>
  dataset.time != "" && dataset.retention_seconds > 0 && dataset.retention_seconds <= 3650 * local.day }

  # BigQuery clusters by four columns at most, and not by floats and bytes.
  clustering = { for name, dataset in var.datasets : name => try(chunklist(
    [for field in dataset.key : field if !contains(["FLOAT", "BYTES"], local.types[name][field])], 4
  )[0], null) }

  # Names that the subscription writes itself.
  taken = local.metadata[*].name
}

resource "google_bigquery_dataset" "main" {
  dataset_id                 = var.bigquery_dataset
  location                   = var.bigquery_location
  description                = "Records of the declared datasets. Made by latamctl."
  delete_contents_on_destroy = false
}

# All records as they were published, in the order of their arrival.
resource "google_bigquery_table" "records" {
  for_each = var.datasets

  dataset_id          = google_bigquery_dataset.main.dataset_id
  table_id            = each.value.bigquery_table
  description         = "Records of ${each.key} as published, repeats included; ${each.value.bigquery_view} shows each row once."
  deletion_protection = var.deletion_protection
  schema = jsonencode([for column in concat(local.metadata, local.columns[each.key]) :
  { for attribute, value in column : attribute => value if value != "" }])
  clustering = local.clustering[each.key]

  time_partitioning {
    type          = "DAY"
    field         = local.by_event_time[each.key] ? each.value.time : "publish_time"
    expiration_ms = local.by_event_time[each.key] ? 1000 * each.value.retention_seconds : null
  }

  lifecycle {
    precondition {
      condition     = length(setintersection([for column in each.value.columns : lower(column.name)], local.taken)) == 0
      error_message = "Dataset ${each.key} has a field named ${join(", ", setintersection([for column in each.value.columns : lower(column.name)], local.taken))}; the BigQuery subscription writes columns of its own with the names ${join(", ", local.taken)}. Rename the field."
    }
    precondition {
      condition     = length(distinct([for column in each.value.columns : lower(column.name)])) == length(each.value.columns)
      error_message = "Dataset ${each.key} has fields whose names differ in case only; BigQuery takes them for one. Rename one of them."
    }
  }
}
