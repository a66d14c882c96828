output "apply_email" {
  description = "Identity that applies; empty without GitHub"
  value       = local.federation ? google_service_account.apply[0].email : ""
}

output "plan_email" {
  description = "Identity that plans; empty without GitHub"
  value       = local.federation ? google_service_account.plan[0].email : ""
}

output "state_bucket" {
  description = "Bucket of the Terraform states; empty when states are kept in a folder"
  value       = var.state_bucket
}

output "workload_identity_provider" {
  description = "Provider to name in google-github-actions/auth; empty without GitHub"
  value       = local.federation ? google_iam_workload_identity_pool_provider.github[0].name : ""
}
