resource "google_compute_network" "this" {
  provider = google-beta

  project                 = var.project
  name                    = var.network
  description             = "VPC of ${var.name}"
  auto_create_subnetworks = false
  routing_mode            = "REGIONAL"

  # The default route stays: the NAT and the private access to Google's APIs both go by it. Nothing
  # in the subnet has an external address, so it is a way out only.
  delete_default_routes_on_create = false
}

resource "google_compute_subnetwork" "this" {
  provider = google-beta

  project       = var.project
  region        = var.region
  name          = var.subnetwork
  description   = "Nodes, pods and services of ${var.name}"
  network       = google_compute_network.this.id
  ip_cidr_range = var.network_cidr
  stack_type    = "IPV4_ONLY"

  # Pub/Sub, Bigtable and the registry are reached without a way through the internet.
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = var.pods_range
    ip_cidr_range = var.pods_cidr
  }

  secondary_ip_range {
    range_name    = var.services_range
    ip_cidr_range = var.services_cidr
  }

  # A tenth of the flows, summed over five minutes, shows who talks to whom at a hundredth of the price.
  log_config {
    aggregation_interval = "INTERVAL_5_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_router" "this" {
  provider = google-beta

  project     = var.project
  region      = var.region
  name        = var.router
  description = "Way out of ${var.name}"
  network     = google_compute_network.this.id
}

resource "google_compute_router_nat" "this" {
  provider = google-beta

  project = var.project
  region  = var.region
  name    = "${var.name}-nat"
  router  = google_compute_router.this.name

  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.this.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  # A node that runs out of ports drops connections without a word in the application. Ports grow
  # with the need, which excludes endpoint-independent mapping, and drops are logged.
  enable_dynamic_port_allocation      = true
  enable_endpoint_independent_mapping = false
  min_ports_per_vm                    = 64
  max_ports_per_vm                    = 4096

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
