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

# A stream of live rows has a subscription of its own on the topic for as long as its client stays.
resource "google_project_iam_custom_role" "follow_topic" {
  role_id     = "${local.role_prefix}_follow_topic"
  title       = "${var.name} follow a topic"
  description = "Attach subscriptions of live rows to a topic"
  permissions = ["pubsub.topics.attachSubscription", "pubsub.topics.get"]
}

resource "google_pubsub_topic_iam_member" "serve_follows" {
  for_each = var.datasets

  topic  = "projects/${var.project}/topics/${each.value.topic}"
  role   = google_project_iam_custom_role.follow_topic.name
  member = "serviceAccount:${google_service_account.serve.email}"
}

resource "google_project_iam_custom_role" "followers" {
  role_id     = "${local.role_prefix}_followers"
  title       = "${var.name} live rows"
  description = "Create, read and delete the subscriptions of live rows"
  permissions = [
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.get",
  ]
}

# These subscriptions come and go, so the right is the project's. Pub/Sub is not among the services whose
# resource names IAM conditions know: a condition on <topic>-tail- would never hold, and there would be no
# live rows. What serve could do to other subscriptions with it, the topics' retention can undo.
resource "google_project_iam_member" "serve_followers" {
  project = var.project
  role    = google_project_iam_custom_role.followers.name
  member  = "serviceAccount:${google_service_account.serve.email}"
}
