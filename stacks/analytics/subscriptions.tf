data "google_project" "this" {
  project_id = var.project
}

locals {
  # The identity with which Pub/Sub writes and forwards. The stack messaging made it.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  longest = 31 * local.day

  # A JSON column takes a text with JSON in it, where a record has the JSON itself.
  json_fields = { for name, types in local.types : name => [for field, type in types : field if type == "JSON"] }
}

# Writes each message to the table, without a service in between.
resource "google_pubsub_subscription" "bigquery" {
  for_each = var.datasets

  name                       = each.value.bigquery_subscription
  topic                      = "projects/${var.project}/topics/${each.value.topic}"
  ack_deadline_seconds       = 60
  message_retention_duration = "${7 * local.day}s"

  bigquery_config {
    table            = "${var.project}.${google_bigquery_table.records[each.key].dataset_id}.${google_bigquery_table.records[each.key].table_id}"
    use_table_schema = true
    write_metadata   = true

    # A field that is not declared is no reason to lose the record, and ingest reports it.
    drop_unknown_fields = true
  }

  dynamic "message_transforms" {
    for_each = length(local.json_fields[each.key]) > 0 ? [local.json_fields[each.key]] : []

    content {
      javascript_udf {
        function_name = "jsonAsText"
        code          = templatefile("${path.module}/json_as_text.js", { fields = jsonencode(message_transforms.value) })
      }
    }
  }

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[each.key].id
    max_delivery_attempts = var.dead_letter_attempts
  }

  # Pub/Sub looks at its rights when the subscription is made.
  depends_on = [
    google_bigquery_table_iam_member.agent,
    google_pubsub_topic_iam_member.dead_letters_agent,
  ]
}

# The right to write, on this table and no other.
resource "google_bigquery_table_iam_member" "agent" {
  for_each = var.datasets

  dataset_id = google_bigquery_table.records[each.key].dataset_id
  table_id   = google_bigquery_table.records[each.key].table_id
  role       = "roles/bigquery.dataEditor"
  member     = local.pubsub_agent
}

# What BigQuery does not take, such as text that is not JSON or a time with nanoseconds. These are not the
# dead letters of ingest: the same record may well be in Bigtable.
resource "google_pubsub_topic" "dead_letters" {
  for_each = var.datasets

  name                       = each.value.bigquery_dead_letter_topic
  message_retention_duration = "${local.longest}s"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
}

resource "google_pubsub_subscription" "dead_letters" {
  for_each = var.datasets

  name                       = each.value.bigquery_dead_letter_subscription
  topic                      = google_pubsub_topic.dead_letters[each.key].id
  ack_deadline_seconds       = 60
  message_retention_duration = "${local.longest}s"
  retain_acked_messages      = false

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "dead_letters_agent" {
  for_each = var.datasets

  topic  = google_pubsub_topic.dead_letters[each.key].id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "bigquery_agent" {
  for_each = var.datasets

  subscription = google_pubsub_subscription.bigquery[each.key].id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
