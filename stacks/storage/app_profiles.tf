locals {
  first_cluster = keys(local.clusters)[0]
  replicated    = length(local.clusters) > 1

  # With one cluster each write can be read at once. With more, requests go to the nearest that answers,
  # and all requests for one row to the same as long as it does, so that writes can be read there at once.
  services = {
    ingest = "Writes of latamctl ingest"
    serve  = "Reads of latamctl serve"
  }
}

resource "google_bigtable_app_profile" "services" {
  for_each = local.services

  instance       = google_bigtable_instance.main.name
  app_profile_id = each.key
  description    = each.value

  multi_cluster_routing_use_any = local.replicated ? true : null
  row_affinity                  = local.replicated ? true : null

  dynamic "single_cluster_routing" {
    for_each = local.replicated ? [] : [local.first_cluster]

    content {
      cluster_id                 = single_cluster_routing.value
      allow_transactional_writes = false
    }
  }

  standard_isolation {
    # Both are promises in milliseconds.
    priority = "PRIORITY_HIGH"
  }

  # A change of routing, and the deletion of a profile in use, are warned of; the plan has shown them.
  ignore_warnings = true
}

# For BigQuery's external tables and other scans: served after everything else. Data Boost would take no
# CPU of the cluster at all, but shows rows half an hour late, and these tables are there to show them now.
resource "google_bigtable_app_profile" "analytics" {
  instance       = google_bigtable_instance.main.name
  app_profile_id = "analytics"
  description    = "Scans for analysis, served last"

  single_cluster_routing {
    cluster_id                 = local.first_cluster
    allow_transactional_writes = false
  }

  standard_isolation {
    priority = "PRIORITY_LOW"
  }

  ignore_warnings = true
}
