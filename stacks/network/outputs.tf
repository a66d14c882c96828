output "network_id" {
  description = "Id of the VPC"
  value       = google_compute_network.this.id
}

output "node_tag" {
  description = "Network tag of the nodes that the firewall lets traffic to"
  value       = local.node_tag
}

output "subnetwork_id" {
  description = "Id of the subnet"
  value       = google_compute_subnetwork.this.id
}
