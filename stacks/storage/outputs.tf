output "clusters" {
  description = "Ids of its clusters"
  value       = keys(local.clusters)
}

output "instance" {
  description = "Id of the Bigtable instance"
  value       = google_bigtable_instance.main.name
}

output "tables" {
  description = "Names of all tables, those of indexes too"
  value       = sort([for table in google_bigtable_table.tables : table.name])
}
