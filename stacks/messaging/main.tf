locals {
  hour = 3600
  day  = 24 * local.hour

  # The longest that Pub/Sub keeps anything, and what a subscription keeps without being told.
  longest = 31 * local.day
  week    = 7 * local.day
}

# Records arrive here. What the topic keeps is what a replay and a stream of live rows can go back to.
resource "google_pubsub_topic" "records" {
  for_each = var.datasets
  provider = google-beta

  name                       = each.value.topic
  message_retention_duration = "${var.message_retention_seconds}s"

  # Records rest in the region of the environment, wherever their publisher is.
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  lifecycle {
    precondition {
      condition     = var.message_retention_seconds >= 2 * local.hour && var.message_retention_seconds <= local.longest
      error_message = "message_retention_seconds is ${var.message_retention_seconds}; live rows need 7200 (2 hours) at least, and Pub/Sub keeps 2678400 (31 days) at most. Set topic_retention."
    }
  }
}

# ingest pulls from here and acknowledges a message once its row is in Bigtable.
resource "google_pubsub_subscription" "ingest" {
  for_each = var.datasets
  provider = google-beta

  name  = each.value.subscription
  topic = google_pubsub_topic.records[each.key].id

  # Long enough that a batch in a retry of Bigtable is not delivered twice, short enough that what a
  # killed pod held comes back within a minute. The client extends it while it works.
  ack_deadline_seconds       = 60
  message_retention_duration = "${max(local.week, var.message_retention_seconds)}s"
  retain_acked_messages      = false

  # An environment that rests for a month must not lose its subscription.
  expiration_policy {
    ttl = ""
  }

  # A message that is given back comes again after 1 s, 2 s, 4 s … and then every 10 minutes. With 20
  # attempts an outage of Bigtable may last an hour and three quarters before records become dead
  # letters; with a limit of 60 s it would be a quarter of an hour.
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "600s"
  }

  # ingest itself sends what breaks the declaration to the dead letters, with the reason. This policy
  # is for what makes ingest fail before it can.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[each.key].id
    max_delivery_attempts = var.dead_letter_attempts
  }

  lifecycle {
    precondition {
      condition     = var.dead_letter_attempts >= 20 && var.dead_letter_attempts <= 100
      error_message = "dead_letter_attempts is ${var.dead_letter_attempts}; with fewer than 20 a short outage makes good records dead letters, and Pub/Sub counts to 100 at most."
    }
  }

  # Without these rights the dead-letter policy forwards nothing.
  depends_on = [google_pubsub_topic_iam_member.dead_letters_agent]
}
