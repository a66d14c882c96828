mock_provider "google" {
  mock_resource "google_certificate_manager_dns_authorization" {
    defaults = {
      dns_resource_record = [{ name = "_acme-challenge.backend.latam.example.com.", type = "CNAME", data = "abc.authorize.certificatemanager.goog." }]
    }
  }

  mock_resource "google_compute_global_address" {
    defaults = {
      address = "203.0.113.7"
    }
  }

  override_resource {
    target = google_service_account.ingest
    values = {
      email = "latam-ingest@my-project.iam.gserviceaccount.com"
      name  = "projects/my-project/serviceAccounts/latam-ingest@my-project.iam.gserviceaccount.com"
    }
  }

  override_resource {
    target = google_service_account.serve
    values = {
      email = "latam-serve@my-project.iam.gserviceaccount.com"
      name  = "projects/my-project/serviceAccounts/latam-serve@my-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project           = "my-project"
  region            = "us-central1"
  name              = "latam"
  labels            = { app = "latam" }
  bigtable_instance = "latam"
  bigquery_dataset  = "latam"
  ingest_account    = "latam-ingest"
  serve_account     = "latam-serve"
  namespace         = "latam"
  address           = "latam-api"
  backend_host      = "Backend.latam.example.com"
  dns_zone          = ""
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

run "only_the_pods_of_the_namespace_are_the_identities" {
  assert {
    condition     = google_service_account_iam_member.ingest_pods.member == "serviceAccount:my-project.svc.id.goog[latam/ingest]" && google_service_account_iam_member.serve_pods.member == "serviceAccount:my-project.svc.id.goog[latam/serve]"
    error_message = "Other pods are these identities."
  }
  assert {
    condition     = google_service_account_iam_member.ingest_pods.role == "roles/iam.workloadIdentityUser" && google_service_account_iam_member.serve_pods.role == "roles/iam.workloadIdentityUser"
    error_message = "Pods may do more than be the identity."
  }
}

run "tables_are_written_by_ingest_and_read_by_serve" {
  assert {
    condition     = google_bigtable_instance_iam_member.ingest.instance == "latam" && google_bigtable_instance_iam_member.ingest.role == "roles/bigtable.user" && google_bigtable_instance_iam_member.ingest.member == "serviceAccount:latam-ingest@my-project.iam.gserviceaccount.com"
    error_message = "ingest may not write the tables."
  }
  assert {
    condition     = google_bigtable_instance_iam_member.serve.instance == "latam" && google_bigtable_instance_iam_member.serve.role == "roles/bigtable.reader" && google_bigtable_instance_iam_member.serve.member == "serviceAccount:latam-serve@my-project.iam.gserviceaccount.com"
    error_message = "serve may not read the tables, or may write them."
  }
}

run "rights_on_pubsub" {
  assert {
    condition     = alltrue([for name, m in google_pubsub_subscription_iam_member.ingest : m.role == "roles/pubsub.subscriber" && m.subscription == "projects/my-project/subscriptions/${var.datasets[name].subscription}"])
    error_message = "ingest may not pull."
  }
  assert {
    condition     = alltrue([for name, m in google_pubsub_topic_iam_member.ingest_rejects : m.role == "roles/pubsub.publisher" && m.topic == "projects/my-project/topics/${var.datasets[name].dead_letter_topic}"])
    error_message = "ingest may not publish dead letters."
  }
  assert {
    condition     = alltrue([for name, m in google_pubsub_topic_iam_member.serve : m.role == "roles/pubsub.publisher" && m.topic == "projects/my-project/topics/${var.datasets[name].topic}" && m.member == "serviceAccount:latam-serve@my-project.iam.gserviceaccount.com"])
    error_message = "serve may not publish."
  }
  assert {
    condition     = alltrue([for name, m in google_pubsub_topic_iam_member.serve_follows : m.role == "roles/pubsub.subscriber" && m.topic == "projects/my-project/topics/${var.datasets[name].topic}"]) && length(google_pubsub_topic_iam_member.serve_follows) == 3
    error_message = "serve may not follow a topic."
  }
}

run "the_project_grants_serve_two_roles_and_ingest_none" {
  assert {
    condition     = google_project_iam_member.serve_queries.role == "roles/bigquery.jobUser" && google_project_iam_member.serve_live_rows.role == "projects/my-project/roles/latam_live_rows"
    error_message = "serve has another role on the project."
  }
}

run "without_a_zone_you_make_the_record" {
  assert {
    condition     = length(google_dns_record_set.api) + length(google_dns_record_set.authorization) + length(google_certificate_manager_dns_authorization.api) == 0
    error_message = "There are records without a zone."
  }
  assert {
    condition     = output.dns_record == "Backend.latam.example.com. 300 IN A 203.0.113.7"
    error_message = "The record to make is not shown."
  }
  assert {
    condition     = length(coalesce(google_certificate_manager_certificate.api.managed[0].dns_authorizations, [])) == 0
    error_message = "The certificate waits for an authorization that nobody makes."
  }
}

run "with_a_zone_the_stack_makes_the_records" {
  variables {
    backend_host = "backend.latam.example.com"
    dns_zone     = "example"
  }

  assert {
    condition     = google_dns_record_set.api[0].name == "backend.latam.example.com." && google_dns_record_set.api[0].rrdatas == tolist(["203.0.113.7"]) && output.dns_record == ""
    error_message = "The name does not point to the address."
  }
  assert {
    condition     = google_dns_record_set.authorization[0].type == "CNAME" && google_dns_record_set.authorization[0].rrdatas == tolist(["abc.authorize.certificatemanager.goog."])
    error_message = "The record that authorizes the certificate is another."
  }
  assert {
    condition     = google_certificate_manager_certificate.api.managed[0].dns_authorizations == tolist([google_certificate_manager_dns_authorization.api[0].id])
    error_message = "The certificate does not use the authorization."
  }
  assert {
    condition     = google_certificate_manager_certificate.api.name != "latam-api-${substr(sha256("backend.latam.example.com "), 0, 8)}" && google_certificate_manager_certificate_map_entry.api.name == "latam-api"
    error_message = "The new certificate would have to take the name of the old one, which is in use."
  }
}

run "armor_lets_in_who_asks_for_the_name_with_a_token" {
  assert {
    condition     = one([for r in google_compute_security_policy.api.rule : r if r.priority == 1000]).match[0].expr[0].expression == "!has(request.headers['host']) || request.headers['host'].lower() != 'backend.latam.example.com'"
    error_message = "Other names are let in."
  }
  assert {
    condition     = one([for r in google_compute_security_policy.api.rule : r.action if r.priority == 1100]) == "deny(403)" && one([for r in google_compute_security_policy.api.rule : r.action if r.priority == 2147483647]) == "deny(403)"
    error_message = "Requests without a token are let in."
  }
  assert {
    condition     = alltrue([for r in google_compute_security_policy.api.rule : startswith(r.match[0].expr[0].expression, "request.method != 'POST' && ") if r.priority >= 2000 && r.priority < 9000])
    error_message = "Records are refused for the text in them."
  }
  assert {
    condition     = google_compute_security_policy.api.name == "latam-api" && google_compute_ssl_policy.api.name == "latam-api" && google_certificate_manager_certificate_map.api.name == "latam-api" && google_compute_global_address.api.name == "latam-api"
    error_message = "The manifests find nothing under the name latam-api."
  }
  assert {
    condition     = google_compute_ssl_policy.api.min_tls_version == "TLS_1_2" && google_compute_ssl_policy.api.profile == "MODERN"
    error_message = "Old TLS is let in."
  }
}
