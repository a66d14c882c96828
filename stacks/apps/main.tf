# Stores records: pulls from the subscriptions, writes the tables, publishes dead letters.
resource "google_service_account" "ingest" {
  account_id   = var.ingest_account
  display_name = "${var.name} ingest"
  description  = "Pods of latamctl ingest"
}

# Answers requests: reads the tables, publishes the records it is sent, asks BigQuery for aggregates.
resource "google_service_account" "serve" {
  account_id   = var.serve_account
  display_name = "${var.name} serve"
  description  = "Pods of latamctl serve"
}

# A pod with the Kubernetes service account of this name, in this namespace only, is this identity.
# There are no keys.
resource "google_service_account_iam_member" "ingest_pods" {
  service_account_id = google_service_account.ingest.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/ingest]"
}

resource "google_service_account_iam_member" "serve_pods" {
  service_account_id = google_service_account.serve.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/serve]"
}
