# The certificate of the DNS endpoint is signed by a public authority, which clients know: giving
# them the cluster's own CA would make them refuse it.
output "ca" {
  description = "CA certificate of the control plane; empty because a public authority signs the DNS endpoint"
  value       = ""
}

output "endpoint" {
  description = "Host name of the DNS endpoint of the control plane"
  value       = google_container_cluster.this.control_plane_endpoints_config[0].dns_endpoint_config[0].endpoint

  # Who deploys needs nodes as well.
  depends_on = [google_container_node_pool.main]
}

output "name" {
  description = "Name of the cluster"
  value       = google_container_cluster.this.name
}
