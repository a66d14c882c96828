# ingest pulls, acknowledges, and hands what it rejects to the dead letters.
resource "google_pubsub_subscription_iam_member" "ingest" {
  for_each = var.datasets

  subscription = "projects/${var.project}/subscriptions/${each.value.subscription}"
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:${google_service_account.ingest.email}"
}

resource "google_pubsub_topic_iam_member" "ingest_rejects" {
  for_each = var.datasets

  topic  = "projects/${var.project}/topics/${each.value.dead_letter_topic}"
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:${google_service_account.ingest.email}"
}

# serve publishes what it is sent by POST.
resource "google_pubsub_topic_iam_member" "serve" {
  for_each = var.datasets

  topic  = "projects/${var.project}/topics/${each.value.topic}"
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:${google_service_account.serve.email}"
}

# A stream of live rows has a subscription of its own on the topic for as long as its client stays. On a
# topic this role is the right to attach one.
resource "google_pubsub_topic_iam_member" "serve_follows" {
  for_each = var.datasets

  topic  = "projects/${var.project}/topics/${each.value.topic}"
  role   = "roles/pubsub.subscriber"
  member = "serviceAccount:${google_service_account.serve.email}"
}

# These subscriptions come and go, so the right is the project's. The role has four permissions and is
# made by the stack bootstrap: who applies this stack in a pipeline may not make roles. Pub/Sub is not
# among the services whose resource names IAM conditions know: a condition on <topic>-tail- would never
# hold, and there would be no live rows. What serve could do to other subscriptions with it, the topics'
# retention can undo.
resource "google_project_iam_member" "serve_live_rows" {
  project = var.project
  role    = "projects/${var.project}/roles/${replace(var.name, "-", "_")}_live_rows"
  member  = "serviceAccount:${google_service_account.serve.email}"
}
