mock_provider "google-beta" {
  mock_resource "google_iam_workload_identity_pool" {
    defaults = {
      name = "projects/123456789012/locations/global/workloadIdentityPools/latam-github"
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      name  = "projects/latam-prod/serviceAccounts/made-up@latam-prod.iam.gserviceaccount.com"
      email = "made-up@latam-prod.iam.gserviceaccount.com"
    }
  }
}

variables {
  project              = "latam-prod"
  region               = "us-central1"
  name                 = "latam"
  labels               = { app = "latam", environment = "prod", managed-by = "latamctl" }
  state_bucket         = "latam-prod-latam-tfstate"
  adopt_state_bucket   = false
  github_repository    = "latam/data"
  github_repository_id = "4242"
  github_owner_id      = "77"
  plan_account         = "latam-plan"
  apply_account        = "latam-apply"
}

run "a_bucket_and_two_identities" {
  command = apply

  assert {
    condition = alltrue([
      google_storage_bucket.state["latam-prod-latam-tfstate"].uniform_bucket_level_access,
      google_storage_bucket.state["latam-prod-latam-tfstate"].public_access_prevention == "enforced",
      google_storage_bucket.state["latam-prod-latam-tfstate"].versioning[0].enabled,
      google_storage_bucket.state["latam-prod-latam-tfstate"].deletion_policy == "ABANDON",
    ])
    error_message = "The state bucket must be versioned, private, and survive a destroy."
  }

  assert {
    condition     = alltrue([for api in google_project_service.api : api.disable_on_destroy == false])
    error_message = "Disabling an API deletes what others keep in it."
  }

  assert {
    condition     = google_iam_workload_identity_pool_provider.github[0].attribute_condition == "assertion.repository_id == '4242' && assertion.repository_owner_id == '77'"
    error_message = "The condition must compare the numeric ids of the repository and its owner: ${google_iam_workload_identity_pool_provider.github[0].attribute_condition}"
  }
  assert {
    condition     = strcontains(google_iam_workload_identity_pool_provider.github[0].attribute_mapping["attribute.access"], "assertion.ref == 'refs/heads/main' && assertion.event_name in ['push', 'schedule', 'workflow_dispatch'] ? 'apply' : 'plan'")
    error_message = "Only runs of the main branch may get the access to apply."
  }
  assert {
    condition     = google_service_account_iam_member.plan[0].member == "principalSet://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/latam-github/attribute.repository_id/4242"
    error_message = "Every run of the repository, and no other, may plan: ${google_service_account_iam_member.plan[0].member}"
  }
  assert {
    condition     = google_service_account_iam_member.apply[0].member == "principalSet://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/latam-github/attribute.access/4242:apply"
    error_message = "Only runs with the access to apply may apply: ${google_service_account_iam_member.apply[0].member}"
  }
  assert {
    condition     = output.plan_email != "" && output.apply_email != "" && output.workload_identity_provider != ""
    error_message = "A workflow needs the provider and both identities."
  }

  assert {
    condition = alltrue([
      for grant in google_project_iam_member.plan :
      can(regex("(\\.viewer|[vV]iewer|\\.reader|securityReviewer|serviceUsageConsumer|roles/browser)$", grant.role))
    ])
    error_message = "The identity that plans has a role that writes: ${join(", ", keys(google_project_iam_member.plan))}"
  }
  assert {
    condition     = strcontains(google_storage_bucket_iam_member.plan_locks["latam-prod-latam-tfstate"].condition[0].expression, "resource.name.endsWith('.tflock')")
    error_message = "The identity that plans may write locks, never states."
  }

  assert {
    condition     = local.live_rows == "projects/latam-prod/roles/${google_project_iam_custom_role.live_rows.role_id}" && contains(local.grantable_roles, local.live_rows)
    error_message = "The stack apps must be able to grant the role of live rows."
  }
  assert {
    condition     = strcontains(google_project_iam_member.apply_grants[0].condition[0].expression, "modifiedGrantsByRole")
    error_message = "Who may change the project's policy must be limited to some roles."
  }
  assert {
    condition     = setintersection(toset(local.grantable_roles), toset(concat(local.apply_roles, ["roles/owner", "roles/editor", "roles/resourcemanager.projectIamAdmin"]))) == toset(["roles/browser"])
    error_message = "The identity that applies could grant itself: ${join(", ", setintersection(toset(local.grantable_roles), toset(local.apply_roles)))}"
  }
}

run "no_bucket_for_states_in_a_folder" {
  command = plan

  variables {
    state_bucket       = ""
    adopt_state_bucket = true
  }

  assert {
    condition     = length(google_storage_bucket.state) == 0 && length(google_storage_bucket_iam_member.plan_reads) == 0
    error_message = "States in a folder need no bucket, nor rights on one."
  }
  assert {
    condition     = output.state_bucket == ""
    error_message = "The output must be empty without a bucket."
  }
}

run "no_identities_without_github" {
  command = plan

  variables {
    github_repository    = ""
    github_repository_id = ""
    github_owner_id      = ""
  }

  assert {
    condition = alltrue([
      length(google_iam_workload_identity_pool.github) == 0,
      length(google_iam_workload_identity_pool_provider.github) == 0,
      length(google_service_account.plan) + length(google_service_account.apply) == 0,
      length(google_project_iam_member.plan) + length(google_project_iam_member.apply) + length(google_project_iam_member.apply_grants) == 0,
      length(google_storage_bucket_iam_member.apply_states) == 0,
    ])
    error_message = "Without a repository there is nobody to let in."
  }
  assert {
    condition     = google_project_iam_custom_role.live_rows.role_id == "latam_live_rows"
    error_message = "The role of live rows is needed without GitHub as well."
  }
  assert {
    condition     = output.plan_email == "" && output.apply_email == "" && output.workload_identity_provider == ""
    error_message = "The outputs must be empty without GitHub."
  }
}

run "names_alone_are_not_enough" {
  command = plan

  variables {
    github_repository_id = "latam/data"
  }

  expect_failures = [google_iam_workload_identity_pool.github]
}

run "ids_cannot_end_the_condition" {
  command = plan

  variables {
    github_owner_id = "77' || 'a' == 'a"
  }

  expect_failures = [google_iam_workload_identity_pool.github]
}
