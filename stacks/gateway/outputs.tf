output "account_email" {
  description = "Identity whose tokens serve accepts"
  value       = google_service_account.gateway.email
}

output "api_keys" {
  description = "API key of each consumer"
  value       = { for consumer, key in google_apikeys_key.consumers : consumer => key.key_string }
  sensitive   = true
}

output "config" {
  description = "Id of the API config in force"
  value       = google_api_gateway_api_config.main.api_config_id
}

output "host" {
  description = "Host of the URL"
  value       = google_api_gateway_gateway.main.default_hostname
}

output "service" {
  description = "Managed service that keys are restricted to"
  value       = google_api_gateway_api.main.managed_service
}

output "url" {
  description = "URL of the API"
  value       = "https://${google_api_gateway_gateway.main.default_hostname}"
}
