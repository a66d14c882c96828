locals {
  # Floats cannot tell partitions apart in GoogleSQL; their texts can. Two keys are equal when these are.
  identity = { for name, dataset in var.datasets : name => [for field in dataset.key :
  local.types[name][field] == "FLOAT" ? "CAST(`${field}` AS STRING)" : "`${field}`"] }

  # The order of ingest: the event time as a cell has it, in milliseconds, then the time of publishing, then
  # the message's id as a number. Without a declared time the time of publishing is the event's.
  newest = { for name, dataset in var.datasets : name => concat(
    dataset.time == "" ? [] : local.types[name][dataset.time] == "DATE" ?
    ["`${dataset.time}` DESC"] :
    ["TIMESTAMP_TRUNC(`${dataset.time}`, MILLISECOND) DESC"],
    ["`publish_time` DESC", "LENGTH(`message_id`) DESC", "`message_id` DESC"],
  ) }

  # What ingest rejects or Bigtable has collected: events before 1970, and those older than the retention.
  kept = { for name, dataset in var.datasets : name => dataset.time == "" ? ["TRUE"] : concat(
    [local.types[name][dataset.time] == "DATE" ?
      "`${dataset.time}` >= DATE '1970-01-01'" :
    "`${dataset.time}` >= TIMESTAMP '1970-01-01 00:00:00+00'"],
    dataset.retention_seconds == 0 ? [] : [local.types[name][dataset.time] == "DATE" ?
      "`${dataset.time}` >= DATE(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL ${dataset.retention_seconds} SECOND))" :
    "`${dataset.time}` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL ${dataset.retention_seconds} SECOND)"],
  ) }

  view_queries = { for name, dataset in var.datasets : name => join("\n", [
    "SELECT",
    join(",\n", [for column in dataset.columns : "  `${column.name}`"]),
    "FROM `${var.project}`.`${var.bigquery_dataset}`.`${dataset.bigquery_table}`",
    "WHERE ${join("\n  AND ", local.kept[name])}",
    "QUALIFY ROW_NUMBER() OVER (",
    "  PARTITION BY ${join(", ", local.identity[name])}",
    "  ORDER BY ${join(", ", local.newest[name])}",
    ") = 1",
    "",
  ]) }
}

# Each row once, as Bigtable has it: of one key the latest event, and of one event time the last published.
resource "google_bigquery_table" "latest" {
  for_each = var.datasets

  dataset_id          = google_bigquery_dataset.main.dataset_id
  table_id            = each.value.bigquery_view
  description         = "Rows of ${each.key}: the newest record of each key"
  deletion_protection = false # A view holds nothing.

  view {
    query          = local.view_queries[each.key]
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.records]
}

# Bigtable's table itself, through the app profile that is served last. Cells are texts.
resource "google_bigquery_table" "live" {
  for_each = var.datasets

  dataset_id          = google_bigquery_dataset.main.dataset_id
  table_id            = each.value.bigquery_external
  description         = "Rows of ${each.key} in Bigtable, this moment"
  deletion_protection = false # It holds nothing.

  external_data_configuration {
    autodetect            = true
    source_format         = "BIGTABLE"
    ignore_unknown_values = true
    source_uris           = ["https://googleapis.com/bigtable/projects/${var.project}/instances/${var.bigtable_instance}/appProfiles/analytics/tables/${each.value.table}"]

    bigtable_options {
      # Keys hold numbers and times in binary, so they are bytes.
      read_rowkey_as_string              = false
      ignore_unspecified_column_families = true

      column_family {
        family_id        = "d"
        type             = "STRING"
        encoding         = "TEXT"
        only_read_latest = true

        dynamic "column" {
          for_each = each.value.columns

          content {
            qualifier_string = column.value.name
            field_name       = column.value.name
            type             = column.value.type == "BYTES" ? "BYTES" : "STRING"
            encoding         = column.value.type == "BYTES" ? "BINARY" : "TEXT"
            only_read_latest = true
          }
        }
      }
    }
  }
}
