# What a client asks of the instance before it uses a table: a ping to warm its connections, and the names
# of the tables, among which ingest looks for those of indexes that are not declared any more.
resource "google_project_iam_custom_role" "bigtable_client" {
  role_id     = "${local.role_prefix}_bigtable_client"
  title       = "${var.name} Bigtable client"
  description = "Ping the instance and list its tables"
  permissions = ["bigtable.instances.ping", "bigtable.tables.list"]
}

resource "google_bigtable_instance_iam_member" "client" {
  for_each = {
    ingest = google_service_account.ingest.email
    serve  = google_service_account.serve.email
  }

  instance = var.bigtable_instance
  role     = google_project_iam_custom_role.bigtable_client.name
  member   = "serviceAccount:${each.value}"
}

resource "google_bigtable_table_iam_member" "ingest" {
  for_each = local.tables

  instance_name = var.bigtable_instance
  table         = each.key
  role          = "roles/bigtable.user"
  member        = "serviceAccount:${google_service_account.ingest.email}"
}

resource "google_bigtable_table_iam_member" "serve" {
  for_each = local.tables

  instance_name = var.bigtable_instance
  table         = each.key
  role          = "roles/bigtable.reader"
  member        = "serviceAccount:${google_service_account.serve.email}"
}
