mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

variables {
  project              = "my-project"
  region               = "us-central1"
  labels               = { app = "latam" }
  dead_letter_attempts = 20
  bigtable_instance    = "latam"
  bigquery_dataset     = "latam"
  bigquery_location    = "us-central1"
  deletion_protection  = true
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

run "a_table_has_the_fields_and_the_metadata" {
  command = plan

  assert {
    condition     = jsondecode(google_bigquery_table.records["flights"].schema)[*].name == ["subscription_name", "attributes", "publish_time", "message_id", "origin", "departed_at", "destination", "delay_minutes", "distance_miles"]
    error_message = "The columns are not the metadata and then the fields in their order."
  }
  assert {
    condition     = [for c in jsondecode(google_bigquery_table.records["web-orders"].schema) : c.name if c.mode == "REQUIRED"] == ["number", "weight", "placed_on"]
    error_message = "Other columns than those of the key and the time are required; such a one could not be added later."
  }
  assert {
    condition     = alltrue([for c in jsondecode(google_bigquery_table.records["flights"].schema) : try(c.description, "-") != ""])
    error_message = "An empty description would show as a change for ever."
  }
  assert {
    condition     = alltrue([for t in google_bigquery_table.records : t.deletion_protection]) && !google_bigquery_dataset.main.delete_contents_on_destroy
    error_message = "Records are not protected."
  }
}

run "partitions_and_clusters" {
  command = plan

  assert {
    condition     = google_bigquery_table.records["web-orders"].time_partitioning[0].field == "placed_on" && google_bigquery_table.records["web-orders"].time_partitioning[0].expiration_ms == 34560000000
    error_message = "With a retention, partitions are by event time and expire with it."
  }
  assert {
    condition     = google_bigquery_table.records["flights"].time_partitioning[0].field == "publish_time" && google_bigquery_table.records["plain"].time_partitioning[0].field == "publish_time"
    error_message = "Without a retention, events of any age arrive: partitions by their time would refuse the old ones."
  }
  assert {
    condition     = google_bigquery_table.records["flights"].clustering == tolist(["origin", "departed_at", "destination"]) && google_bigquery_table.records["web-orders"].clustering == tolist(["number"])
    error_message = "A table is not clustered by its key, or by a float."
  }
}

run "a_retention_beyond_ten_years_is_not_a_partition" {
  command = plan

  variables {
    datasets = { for name, dataset in var.datasets : name => merge(dataset, { retention_seconds = 347155200 }) }
  }

  assert {
    condition     = alltrue([for t in google_bigquery_table.records : t.time_partitioning[0].field == "publish_time"])
    error_message = "A stream refuses partitions of more than ten years ago."
  }
}

run "the_view_shows_each_row_once" {
  command = plan

  assert {
    condition     = google_bigquery_table.latest["flights"].table_id == "flights_latest" && google_bigquery_table.latest["web-orders"].table_id == "web-orders_latest"
    error_message = "The view does not have the name that serve asks for."
  }
  assert {
    condition     = google_bigquery_table.latest["flights"].view[0].query == <<-SQL
      SELECT
        `origin`,
        `departed_at`,
        `destination`,
        `delay_minutes`,
        `distance_miles`
      FROM `my-project`.`latam`.`flights`
      WHERE `departed_at` >= TIMESTAMP '1970-01-01 00:00:00+00'
      QUALIFY ROW_NUMBER() OVER (
        PARTITION BY `origin`, `departed_at`, `destination`
        ORDER BY TIMESTAMP_TRUNC(`departed_at`, MILLISECOND) DESC, `publish_time` DESC, LENGTH(`message_id`) DESC, `message_id` DESC
      ) = 1
    SQL
    error_message = "The view of flights has another query: ${google_bigquery_table.latest["flights"].view[0].query}"
  }
  assert {
    condition     = google_bigquery_table.latest["web-orders"].view[0].query == <<-SQL
      SELECT
        `number`,
        `weight`,
        `placed_on`,
        `photo`,
        `cart`
      FROM `my-project`.`latam`.`web_orders`
      WHERE `placed_on` >= DATE '1970-01-01'
        AND `placed_on` >= DATE(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 34560000 SECOND))
      QUALIFY ROW_NUMBER() OVER (
        PARTITION BY `number`, CAST(`weight` AS STRING)
        ORDER BY `placed_on` DESC, `publish_time` DESC, LENGTH(`message_id`) DESC, `message_id` DESC
      ) = 1
    SQL
    error_message = "The view of web-orders has another query: ${google_bigquery_table.latest["web-orders"].view[0].query}"
  }
  assert {
    condition     = google_bigquery_table.latest["plain"].view[0].query == <<-SQL
      SELECT
        `id_text`,
        `note`
      FROM `my-project`.`latam`.`plain`
      WHERE TRUE
      QUALIFY ROW_NUMBER() OVER (
        PARTITION BY `id_text`
        ORDER BY `publish_time` DESC, LENGTH(`message_id`) DESC, `message_id` DESC
      ) = 1
    SQL
    error_message = "The view of a dataset without time has another query: ${google_bigquery_table.latest["plain"].view[0].query}"
  }
}

run "the_subscription_writes_to_the_table" {
  command = plan

  assert {
    condition     = google_pubsub_subscription.bigquery["web-orders"].topic == "projects/my-project/topics/orders" && google_pubsub_subscription.bigquery["web-orders"].bigquery_config[0].table == "my-project.latam.web_orders"
    error_message = "The subscription joins another topic or table."
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.bigquery : s.bigquery_config[0].use_table_schema && s.bigquery_config[0].write_metadata && s.bigquery_config[0].drop_unknown_fields && s.expiration_policy[0].ttl == ""])
    error_message = "The subscription does not write by the table's schema with the metadata."
  }
  assert {
    condition     = length(google_pubsub_subscription.bigquery["flights"].message_transforms) == 0 && strcontains(google_pubsub_subscription.bigquery["web-orders"].message_transforms[0].javascript_udf[0].code, "const fields = [\"cart\"];")
    error_message = "JSON fields, and only these, are handed over as text."
  }
}

run "pubsub_may_write_this_table_and_forward" {
  command = plan

  assert {
    condition     = alltrue([for m in concat(values(google_bigquery_table_iam_member.agent), values(google_pubsub_topic_iam_member.dead_letters_agent), values(google_pubsub_subscription_iam_member.bigquery_agent)) : m.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
    error_message = "Somebody else than the agent of Pub/Sub has rights."
  }
  assert {
    condition     = alltrue([for name, m in google_bigquery_table_iam_member.agent : m.role == "roles/bigquery.dataEditor" && m.table_id == var.datasets[name].bigquery_table])
    error_message = "The agent may not write to the table."
  }
}

run "the_external_table_reads_texts" {
  command = plan

  assert {
    condition     = google_bigquery_table.live["flights"].external_data_configuration[0].source_uris == tolist(["https://googleapis.com/bigtable/projects/my-project/instances/latam/appProfiles/analytics/tables/flights"])
    error_message = "The external table reads something else."
  }
  assert {
    condition     = [for c in google_bigquery_table.live["web-orders"].external_data_configuration[0].bigtable_options[0].column_family[0].column : c.type] == ["STRING", "STRING", "STRING", "BYTES", "STRING"]
    error_message = "Cells are texts, but those of bytes."
  }
}

run "a_field_with_a_name_of_the_metadata_is_refused" {
  command = plan

  variables {
    datasets = { for name, dataset in var.datasets : name => merge(dataset, {
      columns = concat(dataset.columns, [{ name = "Message_Id", type = "STRING", mode = "NULLABLE", description = "" }])
    }) if name == "plain" }
  }

  expect_failures = [google_bigquery_table.records]
}

run "fields_that_differ_in_case_are_refused" {
  command = plan

  variables {
    datasets = { for name, dataset in var.datasets : name => merge(dataset, {
      columns = concat(dataset.columns, [{ name = "NOTE", type = "STRING", mode = "NULLABLE", description = "" }])
    }) if name == "plain" }
  }

  expect_failures = [google_bigquery_table.records]
}
