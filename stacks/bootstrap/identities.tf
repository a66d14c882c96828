locals {
  # What it takes to refresh every stack's resources and their policies, and nothing that reads the
  # rows of a table or the messages of a topic.
  plan_roles = [
    "roles/apigateway.viewer",
    "roles/bigquery.metadataViewer",
    "roles/bigtable.viewer",
    "roles/browser",
    "roles/certificatemanager.viewer",
    "roles/compute.viewer",
    "roles/container.viewer",
    "roles/dns.reader",
    "roles/iam.roleViewer",
    "roles/iam.securityReviewer",
    "roles/iam.serviceAccountViewer",
    "roles/iam.workloadIdentityPoolViewer",
    "roles/monitoring.notificationChannelViewer",
    "roles/pubsub.viewer",
    # Terraform reads a key's string whenever it refreshes the key.
    "roles/serviceusage.apiKeysViewer",
    # Calls that name a quota project, as those for budgets do, use its quota.
    "roles/serviceusage.serviceUsageConsumer",
    "roles/serviceusage.serviceUsageViewer",
  ]

  # What the stacks other than this one create. This stack itself is applied by a person: what
  # follows cannot give itself a role on the project. It can say who may take an account of the project, its
  # own included, because stacks bind accounts to pods, and IAM conditions do not know service accounts.
  apply_roles = [
    "roles/apigateway.admin",
    "roles/artifactregistry.admin",
    "roles/bigquery.dataOwner",
    "roles/bigtable.admin",
    "roles/browser",
    "roles/certificatemanager.owner",
    "roles/compute.loadBalancerAdmin",
    "roles/compute.networkAdmin",
    "roles/compute.securityAdmin",
    "roles/container.admin",
    # What the scan of an image found, which a deployment waits for.
    "roles/containeranalysis.occurrences.viewer",
    "roles/dns.admin",
    "roles/iam.roleViewer",
    "roles/iam.securityReviewer",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountUser",
    "roles/iam.workloadIdentityPoolViewer",
    "roles/monitoring.notificationChannelEditor",
    "roles/pubsub.admin",
    "roles/servicemanagement.serviceConsumer",
    "roles/serviceusage.apiKeysAdmin",
    "roles/serviceusage.serviceUsageAdmin",
  ]

  # By its parts and not from the resource: a plan then shows the whole condition below.
  live_rows = "projects/${var.project}/roles/${replace(var.name, "-", "_")}_live_rows"

  # The roles that stacks grant on the project. The identity that applies may grant and revoke these
  # only, so a change that was slipped into a stack cannot make anybody an owner.
  grantable_roles = [
    local.live_rows,
    "roles/bigquery.jobUser",
    "roles/browser",
    "roles/cloudasset.viewer",
    "roles/compute.viewer",
    "roles/container.defaultNodeServiceAccount",
    "roles/monitoring.viewer",
  ]
}

# serve follows a topic by a subscription of its own, for as long as a stream of live rows lasts. The
# stack apps grants this role; it is made here because the identity that applies may not make roles.
resource "google_project_iam_custom_role" "live_rows" {
  provider = google-beta

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_live_rows"
  title       = "${var.name} live rows"
  description = "Subscriptions that come and go with their readers; no right to change or share one"
  permissions = [
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.get",
  ]

  depends_on = [google_project_service.api]
}

resource "google_service_account" "plan" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project      = var.project
  account_id   = var.plan_account
  display_name = "${var.name} plan"
  description  = "Reads what latamctl plan and drift compare; any run of ${var.github_repository}"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "apply" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project      = var.project
  account_id   = var.apply_account
  display_name = "${var.name} apply"
  description  = "Changes what latamctl up applies; runs of ${var.github_repository} on its main branch"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "plan" {
  for_each = toset(local.federation ? local.plan_roles : [])
  provider = google-beta

  project = var.project
  role    = each.key
  member  = "serviceAccount:${google_service_account.plan[0].email}"
}

# The reading roles of Artifact Registry and Cloud Storage come with the contents; these are the parts
# about settings. The DNS endpoint of the cluster asks for container.clusters.connect.
resource "google_project_iam_custom_role" "plan" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_plan"
  title       = "${var.name} plan"
  description = "Settings of repositories and buckets without what is in them, and the way to the control plane"
  permissions = [
    "artifactregistry.repositories.get",
    "artifactregistry.repositories.list",
    "container.clusters.connect",
    "storage.buckets.get",
  ]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "plan_settings" {
  for_each = local.federation ? { plan = google_service_account.plan[0].email, apply = google_service_account.apply[0].email } : {}
  provider = google-beta

  project = var.project
  role    = google_project_iam_custom_role.plan[0].id
  member  = "serviceAccount:${each.value}"
}

resource "google_project_iam_member" "apply" {
  for_each = toset(local.federation ? local.apply_roles : [])
  provider = google-beta

  project = var.project
  role    = each.key
  member  = "serviceAccount:${google_service_account.apply[0].email}"
}

resource "google_project_iam_member" "apply_grants" {
  count    = local.federation ? 1 : 0
  provider = google-beta

  project = var.project
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = "serviceAccount:${google_service_account.apply[0].email}"

  condition {
    title       = "only the roles that stacks grant"
    description = "Neither its own roles nor basic ones"
    expression = format(
      "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([%s])",
      join(", ", [for role in local.grantable_roles : "'${role}'"]),
    )
  }

  lifecycle {
    precondition {
      condition     = length(local.grantable_roles) <= 10
      error_message = "grantable_roles has ${length(local.grantable_roles)} roles; IAM takes ten in one hasOnly. Grant a role on the resource instead of the project, or join two lists by ||."
    }
  }
}

# A plan reads states and holds their locks. It must not write a state: a pull request could then
# make the next apply on the main branch believe anything.
resource "google_storage_bucket_iam_member" "plan_reads" {
  for_each = local.federation ? google_storage_bucket.state : {}
  provider = google-beta

  bucket = each.value.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.plan[0].email}"
}

resource "google_storage_bucket_iam_member" "plan_locks" {
  for_each = local.federation ? google_storage_bucket.state : {}
  provider = google-beta

  bucket = each.value.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.plan[0].email}"

  condition {
    title       = "only locks"
    description = "Lock files beside the states, not the states"
    expression  = "resource.type == 'storage.googleapis.com/Object' && resource.name.endsWith('.tflock')"
  }
}

resource "google_storage_bucket_iam_member" "apply_states" {
  for_each = local.federation ? google_storage_bucket.state : {}
  provider = google-beta

  bucket = each.value.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.apply[0].email}"
}
