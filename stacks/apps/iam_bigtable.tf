# The instance holds the tables of this declaration and nothing else, so the rights are on it: they cover
# the ping that warms a connection, the list of tables among which ingest looks for those of indexes that
# are not declared any more, and each new table at once.
resource "google_bigtable_instance_iam_member" "ingest" {
  instance = var.bigtable_instance
  role     = "roles/bigtable.user"
  member   = "serviceAccount:${google_service_account.ingest.email}"
}

resource "google_bigtable_instance_iam_member" "serve" {
  instance = var.bigtable_instance
  role     = "roles/bigtable.reader"
  member   = "serviceAccount:${google_service_account.serve.email}"
}
