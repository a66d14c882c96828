output "integration_email" {
  description = "Service account to name in Datadog's Google Cloud integration; empty without it"
  value       = local.integration ? google_service_account.datadog[0].email : ""
}

output "namespace" {
  description = "Kubernetes namespace of the Agent and of the secret with its key"
  value       = local.namespace
}
