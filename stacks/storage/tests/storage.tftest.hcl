mock_provider "google" {}

variables {
  project               = "my-project"
  region                = "us-central1"
  name                  = "latam"
  labels                = { app = "latam" }
  bigtable_instance     = "latam-bigtable"
  bigtable_storage      = "SSD"
  bigtable_zones        = ["us-central1-b"]
  bigtable_min_nodes    = 1
  bigtable_max_nodes    = 10
  bigtable_cpu_target   = 60
  backup_retention_days = 7
  deletion_protection   = true
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

run "tables_of_rows_and_of_indexes" {
  command = plan

  assert {
    condition     = toset(keys(google_bigtable_table.tables)) == toset(["flights", "flights-by_destination", "web-orders", "plain"])
    error_message = "The tables are not those of the datasets and their indexes."
  }
  assert {
    condition     = alltrue([for t in google_bigtable_table.tables : t.deletion_protection == "PROTECTED" && one(t.column_family).family == "d"])
    error_message = "A table is not protected or has another family than d."
  }
  assert {
    condition     = google_bigtable_table.tables["flights"].split_keys == tolist(["G", "N"]) && length(google_bigtable_table.tables["flights-by_destination"].split_keys) == 0
    error_message = "Split keys are those of rows."
  }
  assert {
    condition     = one(google_bigtable_table.tables["flights"].automated_backup_policy).retention_period == "168h0m0s"
    error_message = "Backups are not kept for 7 days."
  }
}

run "garbage_collection_is_that_of_local_engines" {
  command = plan

  assert {
    condition     = jsondecode(google_bigtable_gc_policy.tables["flights"].gc_rules) == { rules = [{ max_version = 1 }] }
    error_message = "Without a retention, one version is kept for ever."
  }
  assert {
    condition     = google_bigtable_gc_policy.tables["flights-by_destination"].gc_rules == google_bigtable_gc_policy.tables["flights"].gc_rules
    error_message = "An index does not grow old with its rows."
  }
  assert {
    condition     = jsonencode(jsondecode(google_bigtable_gc_policy.tables["web-orders"].gc_rules)) == jsonencode({ mode = "union", rules = [{ max_version = 1 }, { max_age = "34560000s" }] })
    error_message = "With a retention, either rule collects."
  }
  assert {
    condition     = alltrue([for p in google_bigtable_gc_policy.tables : p.deletion_policy == "ABANDON"])
    error_message = "A rule would be taken from a table that stays."
  }
}

run "one_cluster" {
  command = plan

  assert {
    condition     = google_bigtable_instance.main.name == "latam-bigtable" && google_bigtable_instance.main.deletion_protection && [for c in google_bigtable_instance.main.cluster : c.cluster_id] == ["latam-b"]
    error_message = "The cluster is not named after its zone."
  }
  assert {
    condition     = google_bigtable_instance.main.cluster[0].autoscaling_config[0].cpu_target == 60 && google_bigtable_instance.main.cluster[0].autoscaling_config[0].max_nodes == 10
    error_message = "Scaling does not take the settings."
  }
  assert {
    condition     = alltrue([for p in google_bigtable_app_profile.services : p.single_cluster_routing[0].cluster_id == "latam-b" && !p.single_cluster_routing[0].allow_transactional_writes])
    error_message = "The services do not go to the one cluster."
  }
  assert {
    condition     = google_bigtable_app_profile.analytics.standard_isolation[0].priority == "PRIORITY_LOW"
    error_message = "Analysis is not served last."
  }
}

run "two_clusters" {
  command = plan

  variables {
    bigtable_zones = ["us-central1-b", "us-central1-f"]
  }

  assert {
    condition     = toset([for c in google_bigtable_instance.main.cluster : c.cluster_id]) == toset(["latam-b", "latam-f"])
    error_message = "There is not a cluster in each zone."
  }
  assert {
    condition     = alltrue([for p in google_bigtable_app_profile.services : p.multi_cluster_routing_use_any && p.row_affinity && length(p.single_cluster_routing) == 0])
    error_message = "The services do not fail over, or may not read what they wrote."
  }
}

run "no_protection_and_no_backups" {
  command = plan

  variables {
    deletion_protection   = false
    backup_retention_days = 0
  }

  assert {
    condition     = !google_bigtable_instance.main.deletion_protection && alltrue([for t in google_bigtable_table.tables : t.deletion_protection == "UNPROTECTED"])
    error_message = "The protection stays on."
  }
  assert {
    condition     = alltrue([for t in google_bigtable_table.tables : one(t.automated_backup_policy).frequency == "0" && one(t.automated_backup_policy).retention_period == "0"])
    error_message = "Backups stay on: an automated backup is turned off by two zeros."
  }
}

run "zones_that_share_a_letter_are_refused" {
  command = plan

  variables {
    bigtable_zones = ["us-central1-b", "us-east1-b"]
  }

  expect_failures = [google_bigtable_instance.main]
}

run "too_wide_a_range_of_nodes_is_refused" {
  command = plan

  variables {
    bigtable_max_nodes = 11
  }

  expect_failures = [google_bigtable_instance.main]
}

run "too_short_a_backup_is_refused" {
  command = plan

  variables {
    backup_retention_days = 2
  }

  expect_failures = [google_bigtable_table.tables]
}
