# The budget counts what this project costs, and budgets know projects by number.
data "google_project" "this" {
  provider = google-beta

  project_id = var.project
}

locals {
  # The API takes whole units and billionths apart.
  units = floor(var.budget_amount)
  nanos = floor((var.budget_amount - local.units) * 1000000000 + 0.5)
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.budget_emails)
  provider = google-beta

  project      = var.project
  display_name = "${var.name} budget: ${each.key}"
  description  = "Gets the alerts of the budget of ${var.name} ${var.environment}"
  type         = "email"
  user_labels  = var.labels

  labels = {
    email_address = each.key
  }
}

resource "google_billing_budget" "this" {
  provider = google-beta

  billing_account = var.billing_account
  display_name    = "${var.name} ${var.environment}"

  budget_filter {
    projects               = ["projects/${data.google_project.this.number}"]
    calendar_period        = "MONTH"
    credit_types_treatment = "INCLUDE_ALL_CREDITS"
  }

  amount {
    specified_amount {
      currency_code = var.budget_currency
      units         = tostring(local.units)
      nanos         = local.nanos
    }
  }

  dynamic "threshold_rules" {
    for_each = toset(var.budget_thresholds)
    content {
      threshold_percent = threshold_rules.value
      spend_basis       = "CURRENT_SPEND"
    }
  }

  # The one forecast worth a mail: the month will cost more than it may. At lower thresholds a
  # forecast is true on the first day of every month.
  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  # Without addresses, only the administrators of the billing account are told.
  dynamic "all_updates_rule" {
    for_each = length(var.budget_emails) > 0 ? ["email"] : []
    content {
      monitoring_notification_channels = [for email in sort(var.budget_emails) : google_monitoring_notification_channel.email[email].id]
      disable_default_iam_recipients   = false
    }
  }

  lifecycle {
    precondition {
      condition     = var.budget_amount > 0
      error_message = "budget_amount is ${var.budget_amount}; it must be the amount of a month, more than 0 ${var.budget_currency}."
    }
    precondition {
      condition     = length(var.budget_emails) <= 5
      error_message = "budget_emails has ${length(var.budget_emails)} addresses; a budget takes 5 at most. Use the address of a group."
    }
    precondition {
      condition     = alltrue([for threshold in var.budget_thresholds : threshold > 0])
      error_message = "budget_thresholds must be fractions of the budget above 0, such as 0.5 for half."
    }
  }
}
