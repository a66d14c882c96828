output "address" {
  description = "IP address of the load balancer"
  value       = google_compute_global_address.api.address
}

output "certificate_map" {
  description = "Certificate map of the load balancer"
  value       = google_certificate_manager_certificate_map.api.name
}

output "dns_record" {
  description = "The record that you make, empty when the stack makes it"
  value       = var.dns_zone == "" ? "${var.backend_host}. 300 IN A ${google_compute_global_address.api.address}" : ""
}

output "ingest_email" {
  description = "Identity of ingest"
  value       = google_service_account.ingest.email
}

output "security_policy" {
  description = "Cloud Armor policy of the load balancer"
  value       = google_compute_security_policy.api.name
}

output "serve_email" {
  description = "Identity of serve"
  value       = google_service_account.serve.email
}

output "ssl_policy" {
  description = "TLS policy of the load balancer"
  value       = google_compute_ssl_policy.api.name
}
