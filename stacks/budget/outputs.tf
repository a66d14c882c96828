output "budget_id" {
  description = "Id of the budget"
  value       = google_billing_budget.this.id
}
