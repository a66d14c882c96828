# For datasets with api: {aggregate: bigquery}: run queries, and read this dataset, views and tables alike.
resource "google_project_iam_member" "serve_queries" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = "serviceAccount:${google_service_account.serve.email}"
}

resource "google_bigquery_dataset_iam_member" "serve" {
  dataset_id = var.bigquery_dataset
  role       = "roles/bigquery.dataViewer"
  member     = "serviceAccount:${google_service_account.serve.email}"
}
