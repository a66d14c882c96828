mock_provider "google-beta" {
  mock_resource "google_service_account" {
    defaults = {
      email = "latam-nodes@latam-prod.iam.gserviceaccount.com"
    }
  }
}

variables {
  project                = "latam-prod"
  region                 = "us-central1"
  name                   = "latam"
  labels                 = { app = "latam" }
  cluster                = "latam"
  network                = "latam"
  subnetwork             = "latam"
  pods_range             = "pods"
  services_range         = "services"
  registry               = "latam"
  node_account           = "latam-nodes"
  node_machine_type      = "e2-standard-4"
  node_min               = 1
  node_max               = 5
  release_channel        = "REGULAR"
  maintenance_start      = "2026-01-03T04:00:00Z"
  maintenance_recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
  deletion_protection    = true
}

run "private_and_hardened" {
  command = apply

  assert {
    condition     = google_container_cluster.this.control_plane_endpoints_config[0].dns_endpoint_config[0].allow_external_traffic && !google_container_cluster.this.control_plane_endpoints_config[0].ip_endpoints_config[0].enabled
    error_message = "The control plane must have its DNS endpoint and no address."
  }
  assert {
    condition     = google_container_cluster.this.private_cluster_config[0].enable_private_nodes && google_container_node_pool.main.network_config[0].enable_private_nodes
    error_message = "Nodes must have no external address."
  }
  assert {
    condition     = output.ca == ""
    error_message = "With a CA, clients would refuse the public certificate of the DNS endpoint."
  }

  assert {
    condition     = google_container_cluster.this.maintenance_policy[0].recurring_window[0].end_time == "2026-01-03T10:00:00Z"
    error_message = "The window must end six hours after its start: ${google_container_cluster.this.maintenance_policy[0].recurring_window[0].end_time}"
  }

  assert {
    condition     = google_container_node_pool.main.node_config[0].service_account == "latam-nodes@latam-prod.iam.gserviceaccount.com" && google_container_cluster.this.node_config[0].service_account == "latam-nodes@latam-prod.iam.gserviceaccount.com"
    error_message = "Nodes must run as their own account, also those of the pool that is removed."
  }
  assert {
    condition     = google_project_iam_member.nodes.role == "roles/container.defaultNodeServiceAccount"
    error_message = "Nodes need the role that GKE names for them, and no more."
  }
}

run "protection_can_be_taken_off" {
  command = plan

  variables {
    deletion_protection = false
  }

  assert {
    condition     = !google_container_cluster.this.deletion_protection
    error_message = "deletion_protection must reach the cluster."
  }
}

run "fewest_nodes_above_most" {
  command = plan

  variables {
    node_min = 6
  }

  expect_failures = [google_container_node_pool.main]
}
