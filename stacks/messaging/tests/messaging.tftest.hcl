mock_provider "google-beta" {
  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

variables {
  project                   = "my-project"
  region                    = "us-central1"
  labels                    = { app = "latam" }
  message_retention_seconds = 604800
  dead_letter_attempts      = 20
  datasets = {
    flights = {
      topic                             = "flights"
      subscription                      = "flights-ingest"
      dead_letter_topic                 = "flights-dead"
      dead_letter_subscription          = "flights-dead-inspect"
      bigquery_subscription             = "flights-bigquery"
      bigquery_dead_letter_topic        = "flights-bigquery-dead"
      bigquery_dead_letter_subscription = "flights-bigquery-dead-inspect"
      table                             = "flights"
      index_tables                      = ["flights-by_destination"]
      retention_seconds                 = 0
      split_keys                        = ["G", "N"]
      columns = [
        { name = "origin", type = "STRING", mode = "REQUIRED", description = "IATA code" },
        { name = "departed_at", type = "TIMESTAMP", mode = "REQUIRED", description = "" },
        { name = "destination", type = "STRING", mode = "REQUIRED", description = "IATA code" },
        { name = "delay_minutes", type = "INTEGER", mode = "NULLABLE", description = "" },
        { name = "distance_miles", type = "INTEGER", mode = "NULLABLE", description = "" },
      ]
      key               = ["origin", "departed_at", "destination"]
      time              = "departed_at"
      bigquery_table    = "flights"
      bigquery_view     = "flights_latest"
      bigquery_external = "flights_live"
    }
    web-orders = {
      topic                             = "orders"
      subscription                      = "orders-ingest"
      dead_letter_topic                 = "orders-dead"
      dead_letter_subscription          = "orders-dead-inspect"
      bigquery_subscription             = "orders-bigquery"
      bigquery_dead_letter_topic        = "orders-bigquery-dead"
      bigquery_dead_letter_subscription = "orders-bigquery-dead-inspect"
      table                             = "web-orders"
      index_tables                      = []
      retention_seconds                 = 34560000
      split_keys                        = []
      columns = [
        { name = "number", type = "INTEGER", mode = "REQUIRED", description = "" },
        { name = "weight", type = "FLOAT", mode = "REQUIRED", description = "" },
        { name = "placed_on", type = "DATE", mode = "REQUIRED", description = "" },
        { name = "photo", type = "BYTES", mode = "NULLABLE", description = "" },
        { name = "cart", type = "JSON", mode = "REQUIRED", description = "" },
      ]
      key               = ["number", "weight"]
      time              = "placed_on"
      bigquery_table    = "web_orders"
      bigquery_view     = "web-orders_latest"
      bigquery_external = "web_orders_live"
    }
    plain = {
      topic                             = "plain"
      subscription                      = "plain-ingest"
      dead_letter_topic                 = "plain-dead"
      dead_letter_subscription          = "plain-dead-inspect"
      bigquery_subscription             = "plain-bigquery"
      bigquery_dead_letter_topic        = "plain-bigquery-dead"
      bigquery_dead_letter_subscription = "plain-bigquery-dead-inspect"
      table                             = "plain"
      index_tables                      = []
      retention_seconds                 = 0
      split_keys                        = []
      columns = [
        { name = "id_text", type = "STRING", mode = "REQUIRED", description = "" },
        { name = "note", type = "STRING", mode = "NULLABLE", description = "" },
      ]
      key               = ["id_text"]
      time              = ""
      bigquery_table    = "plain"
      bigquery_view     = "plain_latest"
      bigquery_external = "plain_live"
    }
  }
}

run "each_dataset_has_its_route" {
  command = plan

  assert {
    condition     = toset([for topic in google_pubsub_topic.records : topic.name]) == toset(["flights", "orders", "plain"])
    error_message = "The topics are not those of the datasets."
  }
  assert {
    condition     = google_pubsub_topic.records["flights"].message_retention_duration == "604800s"
    error_message = "The topic does not keep what topic_retention says."
  }
  assert {
    condition     = alltrue([for topic in google_pubsub_topic.records : topic.message_storage_policy[0].allowed_persistence_regions == toset(["us-central1"])])
    error_message = "Records may rest outside the region."
  }
  assert {
    condition     = google_pubsub_subscription.ingest["web-orders"].name == "orders-ingest" && google_pubsub_subscription.dead_letters["web-orders"].name == "orders-dead-inspect"
    error_message = "The subscriptions are not named after the topic."
  }
}

run "no_subscription_expires" {
  command = plan

  assert {
    condition     = alltrue([for s in concat(values(google_pubsub_subscription.ingest), values(google_pubsub_subscription.dead_letters)) : s.expiration_policy[0].ttl == ""])
    error_message = "A subscription would be deleted after a month without use."
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.dead_letters : s.message_retention_duration == "2678400s"])
    error_message = "Dead letters are not kept for 31 days."
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.ingest : s.dead_letter_policy[0].max_delivery_attempts == 20])
    error_message = "The dead-letter policy does not take the setting."
  }
}

run "pubsub_may_forward_dead_letters" {
  command = plan

  assert {
    condition     = alltrue([for m in google_pubsub_topic_iam_member.dead_letters_agent : m.role == "roles/pubsub.publisher" && m.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
    error_message = "The agent of Pub/Sub may not publish to the dead letters."
  }
  assert {
    condition     = alltrue([for m in google_pubsub_subscription_iam_member.ingest_agent : m.role == "roles/pubsub.subscriber" && m.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
    error_message = "The agent of Pub/Sub may not acknowledge what it forwards."
  }
  assert {
    condition     = length(google_pubsub_topic_iam_member.dead_letters_agent) == 3 && length(google_pubsub_subscription_iam_member.ingest_agent) == 3
    error_message = "A dataset has no rights for its dead letters."
  }
}

run "a_longer_retention_holds_for_the_subscription" {
  command = plan

  variables {
    message_retention_seconds = 1209600
  }

  assert {
    condition     = google_pubsub_subscription.ingest["flights"].message_retention_duration == "1209600s"
    error_message = "The subscription keeps less than the topic."
  }
}

run "a_short_retention_leaves_the_subscription_its_week" {
  command = plan

  variables {
    message_retention_seconds = 7200
  }

  assert {
    condition     = google_pubsub_subscription.ingest["flights"].message_retention_duration == "604800s" && google_pubsub_topic.records["flights"].message_retention_duration == "7200s"
    error_message = "A backlog would be lost after two hours."
  }
}

run "too_short_a_retention_is_refused" {
  command = plan

  variables {
    message_retention_seconds = 3600
  }

  expect_failures = [google_pubsub_topic.records]
}

run "too_few_attempts_are_refused" {
  command = plan

  variables {
    dead_letter_attempts = 5
  }

  expect_failures = [google_pubsub_subscription.ingest]
}

run "no_datasets_no_resources" {
  command = plan

  variables {
    datasets = {}
  }

  assert {
    condition     = length(google_pubsub_topic.records) + length(google_pubsub_topic.dead_letters) + length(google_pubsub_subscription.ingest) == 0
    error_message = "There are topics without a dataset."
  }
}
