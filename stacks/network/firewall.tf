# GKE makes the rules between its control plane and its nodes itself, at a priority before all of these.

locals {
  # The cluster gives this tag to its nodes.
  node_tag = "${var.name}-node"

  # Load balancers and their health checks come from these ranges, documented by Google.
  load_balancers = ["35.191.0.0/16", "130.211.0.0/22"]
}

resource "google_compute_firewall" "deny_ingress" {
  provider = google-beta

  project     = var.project
  name        = "${var.name}-deny-ingress"
  description = "What no other rule allows is refused, and logged"
  network     = google_compute_network.this.id
  direction   = "INGRESS"

  # One before the implied rule, which does the same but cannot be logged.
  priority      = 65534
  source_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "allow_internal" {
  provider = google-beta

  project     = var.project
  name        = "${var.name}-allow-internal"
  description = "Nodes and pods among themselves; network policies of the cluster narrow it"
  network     = google_compute_network.this.id
  direction   = "INGRESS"
  priority    = 1000

  source_ranges = [var.network_cidr, var.pods_cidr]
  target_tags   = [local.node_tag]

  allow {
    protocol = "tcp"
  }
  allow {
    protocol = "udp"
  }
  allow {
    protocol = "icmp"
  }
}

resource "google_compute_firewall" "allow_load_balancers" {
  provider = google-beta

  project     = var.project
  name        = "${var.name}-allow-load-balancers"
  description = "Google's load balancers and health checks to serve"
  network     = google_compute_network.this.id
  direction   = "INGRESS"
  priority    = 1000

  source_ranges = local.load_balancers
  target_tags   = [local.node_tag]

  allow {
    protocol = "tcp"
    ports    = ["8080"]
  }
}
