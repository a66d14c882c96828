resource "google_artifact_registry_repository" "this" {
  provider = google-beta

  project       = var.project
  location      = var.region
  repository_id = var.registry
  description   = "Images of ${var.name}"
  format        = "DOCKER"
  mode          = "STANDARD_REPOSITORY"
  labels        = var.labels

  # A tag that was reviewed stays what was reviewed.
  docker_config {
    immutable_tags = true
  }

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  cleanup_policy_dry_run = false

  # Keeping wins over deleting: the way back to the last 30 versions is never cut.
  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 30
    }
  }

  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "${14 * 24 * 3600}s"
    }
  }
}
