# The nodes' own identity. Pods have theirs by workload identity and cannot reach this one.
resource "google_service_account" "nodes" {
  provider = google-beta

  project      = var.project
  account_id   = var.node_account
  display_name = "${var.name} nodes"
  description  = "Nodes of the cluster ${var.cluster}: logs, metrics and images"
}

resource "google_project_iam_member" "nodes" {
  provider = google-beta

  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = "serviceAccount:${google_service_account.nodes.email}"
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  provider = google-beta

  project    = var.project
  location   = var.region
  repository = var.registry
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${google_service_account.nodes.email}"
}

resource "google_container_node_pool" "main" {
  provider = google-beta

  project  = var.project
  location = var.region
  cluster  = google_container_cluster.this.name
  name     = "main"

  initial_node_count = var.node_min

  autoscaling {
    min_node_count  = var.node_min
    max_node_count  = var.node_max
    location_policy = "BALANCED"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  # An upgrade adds a node before it takes one away.
  upgrade_settings {
    strategy        = "SURGE"
    max_surge       = 1
    max_unavailable = 0
  }

  network_config {
    enable_private_nodes = true
  }

  node_config {
    machine_type    = var.node_machine_type
    image_type      = "COS_CONTAINERD"
    disk_type       = "pd-balanced"
    disk_size_gb    = 50
    service_account = google_service_account.nodes.email
    resource_labels = var.labels

    # What the nodes may do is for the roles of their account to say; scopes are the old way.
    oauth_scopes = ["https://www.googleapis.com/auth/cloud-platform"]

    # The firewall of the network stack lets traffic to this tag.
    tags = ["${var.name}-node"]

    metadata = {
      disable-legacy-endpoints = "true"
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    # The read-only port tells anybody in the network what runs on the node.
    kubelet_config {
      insecure_kubelet_readonly_port_enabled = "FALSE"
    }
  }

  lifecycle {
    # The autoscaler owns the count from the first minute; a change of the first one would replace the pool.
    ignore_changes = [initial_node_count]

    precondition {
      condition     = var.node_min <= var.node_max
      error_message = "node_min (${var.node_min}) must not exceed node_max (${var.node_max})."
    }
  }

  depends_on = [google_artifact_registry_repository_iam_member.nodes]
}
