resource "google_container_cluster" "this" {
  provider = google-beta

  project         = var.project
  name            = var.cluster
  location        = var.region
  description     = "Runs ingest and serve of ${var.name}"
  resource_labels = var.labels

  deletion_protection = var.deletion_protection

  network           = "projects/${var.project}/global/networks/${var.network}"
  subnetwork        = "projects/${var.project}/regions/${var.region}/subnetworks/${var.subnetwork}"
  networking_mode   = "VPC_NATIVE"
  datapath_provider = "ADVANCED_DATAPATH"

  # Traffic between pods of one node shows in the flow logs as well.
  enable_intranode_visibility = true

  ip_allocation_policy {
    cluster_secondary_range_name  = var.pods_range
    services_secondary_range_name = var.services_range
  }

  # The pool that GKE insists on is replaced by the one in nodes.tf. While it lives, it uses our
  # account: the project's default one may be an editor, or not exist.
  initial_node_count       = 1
  remove_default_node_pool = true

  node_config {
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  # The control plane has no address. It is reached by its DNS name, which answers whom IAM lets in:
  # no list of networks, no bastion.
  private_cluster_config {
    enable_private_nodes = true
  }

  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
    ip_endpoints_config {
      enabled = false
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  enable_shielded_nodes = true
  enable_legacy_abac    = false

  # Roles that somebody binds to everyone, or to anyone without a name, are refused.
  rbac_binding_config {
    enable_insecure_binding_system_authenticated   = false
    enable_insecure_binding_system_unauthenticated = false
  }

  anonymous_authentication_config {
    mode = "LIMITED"
  }

  # Images are scanned in the registry.
  security_posture_config {
    mode               = "BASIC"
    vulnerability_mode = "VULNERABILITY_DISABLED"
  }

  release_channel {
    channel = var.release_channel
  }

  maintenance_policy {
    recurring_window {
      start_time = var.maintenance_start
      # GKE asks for 48 hours in any 32 days: two windows of six hours a week are enough.
      end_time   = timeadd(var.maintenance_start, "6h")
      recurrence = var.maintenance_recurrence
    }
  }

  addons_config {
    horizontal_pod_autoscaling {
      disabled = false
    }
    http_load_balancing {
      disabled = false
    }
    gce_persistent_disk_csi_driver_config {
      enabled = true
    }
  }

  gateway_api_config {
    channel = "CHANNEL_STANDARD"
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS"]
  }

  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]

    managed_prometheus {
      enabled = true
    }

    advanced_datapath_observability_config {
      enable_metrics = true
      enable_relay   = false
    }
  }

  cost_management_config {
    enabled = true
  }

  lifecycle {
    # node_config belongs to the pool that was removed; any difference in it would replace the cluster.
    ignore_changes = [initial_node_count, node_config]
  }

  depends_on = [google_project_iam_member.nodes]
}
