mock_provider "google-beta" {}

variables {
  project        = "latam-prod"
  region         = "us-central1"
  name           = "latam"
  labels         = { app = "latam" }
  network        = "latam"
  subnetwork     = "latam"
  router         = "latam"
  network_cidr   = "10.10.0.0/20"
  pods_cidr      = "10.20.0.0/14"
  pods_range     = "pods"
  services_cidr  = "10.24.0.0/20"
  services_range = "services"
}

run "ranges_and_firewall" {
  command = plan

  assert {
    condition     = { for range in google_compute_subnetwork.this.secondary_ip_range : range.range_name => range.ip_cidr_range } == { pods = "10.20.0.0/14", services = "10.24.0.0/20" }
    error_message = "The subnet must have one range for pods and one for services."
  }
  assert {
    condition     = google_compute_subnetwork.this.private_ip_google_access
    error_message = "Nodes have no external address: without private access they reach no Google API."
  }

  assert {
    condition     = google_compute_firewall.deny_ingress.priority > google_compute_firewall.allow_internal.priority && google_compute_firewall.deny_ingress.priority > google_compute_firewall.allow_load_balancers.priority
    error_message = "The refusal must come after what is allowed."
  }
  assert {
    condition     = toset(google_compute_firewall.allow_internal.source_ranges) == toset(["10.10.0.0/20", "10.20.0.0/14"])
    error_message = "Only nodes and pods may talk among themselves."
  }
  assert {
    condition     = google_compute_firewall.allow_internal.target_tags == toset([output.node_tag]) && output.node_tag == "latam-node"
    error_message = "The rules must be about the cluster's nodes."
  }
}
