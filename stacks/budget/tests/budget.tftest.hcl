mock_provider "google-beta" {
  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

variables {
  project           = "latam-prod"
  region            = "us-central1"
  name              = "latam"
  environment       = "prod"
  labels            = { app = "latam" }
  billing_account   = "000000-AAAAAA-BBBBBB"
  budget_amount     = 750.5
  budget_currency   = "USD"
  budget_emails     = ["data@example.com", "finance@example.com"]
  budget_thresholds = [0.5, 0.9, 1.0]
}

run "a_month_of_one_project" {
  command = plan

  assert {
    condition     = google_billing_budget.this.budget_filter[0].projects == toset(["projects/123456789012"])
    error_message = "Other projects of the billing account must not count."
  }

  assert {
    condition     = google_billing_budget.this.amount[0].specified_amount[0].units == "750" && google_billing_budget.this.amount[0].specified_amount[0].nanos == 500000000
    error_message = "750.5 is 750 units and 500000000 nanos."
  }

  assert {
    condition     = sort([for rule in google_billing_budget.this.threshold_rules : "${rule.spend_basis} ${rule.threshold_percent}"]) == tolist(["CURRENT_SPEND 0.5", "CURRENT_SPEND 0.9", "CURRENT_SPEND 1", "FORECASTED_SPEND 1"])
    error_message = "One alert at each threshold, and one for the forecast."
  }

  assert {
    condition     = toset([for channel in google_monitoring_notification_channel.email : channel.labels.email_address]) == toset(["data@example.com", "finance@example.com"])
    error_message = "Each address must get a channel."
  }
  assert {
    condition     = length(google_billing_budget.this.all_updates_rule) == 1 && !google_billing_budget.this.all_updates_rule[0].disable_default_iam_recipients
    error_message = "The administrators of the billing account must be told as well."
  }
}

run "no_mails" {
  command = plan

  variables {
    budget_emails = []
  }

  assert {
    condition     = length(google_monitoring_notification_channel.email) == 0 && length(google_billing_budget.this.all_updates_rule) == 0
    error_message = "Without addresses there is no channel."
  }
}

run "a_budget_of_nothing" {
  command = plan

  variables {
    budget_amount = 0
  }

  expect_failures = [google_billing_budget.this]
}

run "too_many_mails" {
  command = plan

  variables {
    budget_emails = ["a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com", "f@example.com"]
  }

  expect_failures = [google_billing_budget.this]
}
