# Datadog reads the metrics of Pub/Sub, Bigtable and the load balancer from Google. Its own service
# account takes ours for that: no key is handed over, and revoking is one change here.

locals {
  integration = var.datadog_integration_email != ""

  # The roles that Datadog documents for the integration. None of them reads data.
  integration_roles = [
    "roles/browser",
    "roles/cloudasset.viewer",
    "roles/compute.viewer",
    "roles/monitoring.viewer",
  ]
}

resource "google_service_account" "datadog" {
  count    = local.integration ? 1 : 0
  provider = google-beta

  project      = var.project
  account_id   = "${var.name}-datadog"
  display_name = "${var.name} Datadog"
  description  = "Datadog's Google Cloud integration: metrics and the inventory of resources"
}

resource "google_project_iam_member" "datadog" {
  for_each = toset(local.integration ? local.integration_roles : [])
  provider = google-beta

  project = var.project
  role    = each.key
  member  = "serviceAccount:${google_service_account.datadog[0].email}"
}

resource "google_service_account_iam_member" "datadog" {
  count    = local.integration ? 1 : 0
  provider = google-beta

  service_account_id = google_service_account.datadog[0].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:${var.datadog_integration_email}"
}
