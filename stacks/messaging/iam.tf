# Pub/Sub forwards dead letters with an identity of its own. Asking for it creates it, because a
# binding to an identity that does not exist yet is refused.
resource "google_project_service_identity" "pubsub" {
  provider = google-beta

  project = var.project
  service = "pubsub.googleapis.com"
}

data "google_project" "this" {
  provider = google-beta

  project_id = var.project
}

locals {
  # Made from the number, so that a plan shows whom it binds.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic_iam_member" "dead_letters_agent" {
  for_each = var.datasets
  provider = google-beta

  topic  = google_pubsub_topic.dead_letters[each.key].id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent

  depends_on = [google_project_service_identity.pubsub]
}

# Forwarding acknowledges the message where it came from.
resource "google_pubsub_subscription_iam_member" "ingest_agent" {
  for_each = var.datasets
  provider = google-beta

  subscription = google_pubsub_subscription.ingest[each.key].id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent

  depends_on = [google_project_service_identity.pubsub]
}
