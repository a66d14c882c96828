# Rejected records wait here for a person: latamctl dead-letters list, show, replay.
resource "google_pubsub_topic" "dead_letters" {
  for_each = var.datasets
  provider = google-beta

  name                       = each.value.dead_letter_topic
  message_retention_duration = "${local.longest}s"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
}

resource "google_pubsub_subscription" "dead_letters" {
  for_each = var.datasets
  provider = google-beta

  name  = each.value.dead_letter_subscription
  topic = google_pubsub_topic.dead_letters[each.key].id

  ack_deadline_seconds       = 60
  message_retention_duration = "${local.longest}s"
  retain_acked_messages      = false

  expiration_policy {
    ttl = ""
  }
}
