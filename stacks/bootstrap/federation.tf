# GitHub Actions signs in with the token that GitHub gives to each run. No key exists that could leak.

locals {
  federation = var.github_repository != ""

  # What a run may do follows from where it runs. Only these events run the code that is on the main
  # branch: pull_request_target, too, has refs/heads/main as its ref, but anybody can start it.
  applies = join(" && ", [
    "assertion.ref == 'refs/heads/main'",
    "assertion.event_name in ['push', 'schedule', 'workflow_dispatch']",
  ])
}

resource "google_iam_workload_identity_pool" "github" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project                   = var.project
  workload_identity_pool_id = "${var.name}-github"
  display_name              = "GitHub Actions"
  description               = "Runs of ${var.github_repository}"

  lifecycle {
    # Names can be given away and registered again by somebody else; ids cannot.
    precondition {
      condition     = can(regex("^[0-9]+$", var.github_repository_id)) && can(regex("^[0-9]+$", var.github_owner_id))
      error_message = "github_repository is set, so github_repository_id and github_owner_id must be its numeric ids (gh api repos/OWNER/NAME --jq '.id, .owner.id'), but they are '${var.github_repository_id}' and '${var.github_owner_id}'."
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub Actions"
  description                        = "Runs of ${var.github_repository}"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }

  attribute_mapping = {
    # The subject is what audit logs show. GitHub's own holds the branch and can be longer than the
    # 127 bytes that Google allows; this one names the run, where the branch can be looked up.
    "google.subject"          = "'repository:' + assertion.repository_id + ':run:' + assertion.run_id"
    "attribute.repository_id" = "assertion.repository_id"
    "attribute.access"        = "assertion.repository_id + ':' + (${local.applies} ? 'apply' : 'plan')"
  }

  attribute_condition = join(" && ", [
    "assertion.repository_id == '${var.github_repository_id}'",
    "assertion.repository_owner_id == '${var.github_owner_id}'",
  ])
}

# Every run of the repository may plan, a pull request's too.
resource "google_service_account_iam_member" "plan" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  service_account_id = google_service_account.plan[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.repository_id/${var.github_repository_id}"
}

resource "google_service_account_iam_member" "apply" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  service_account_id = google_service_account.apply[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.access/${var.github_repository_id}:apply"
}
