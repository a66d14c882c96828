output "dataset" {
  description = "Id of the BigQuery dataset"
  value       = google_bigquery_dataset.main.dataset_id
}

output "tables" {
  description = "Id of each dataset's table of all records"
  value       = { for name, table in google_bigquery_table.records : name => table.table_id }
}

output "views" {
  description = "Id of each dataset's view of its newest rows"
  value       = { for name, view in google_bigquery_table.latest : name => view.table_id }
}
