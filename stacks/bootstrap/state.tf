locals {
  buckets = toset(var.state_bucket == "" ? [] : [var.state_bucket])
}

# The bucket must exist before the first state can be written into it, so the first run makes it
# and this stack takes it over.
import {
  for_each = var.adopt_state_bucket ? local.buckets : toset([])
  provider = google-beta

  to = google_storage_bucket.state[each.key]
  id = "${var.project}/${each.key}"
}

resource "google_storage_bucket" "state" {
  for_each = local.buckets
  provider = google-beta

  project  = var.project
  name     = each.key
  location = var.region
  labels   = var.labels

  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # The states of all stacks are in it, this one's included: `down` forgets the bucket and leaves it.
  deletion_policy = "ABANDON"

  # A state that was overwritten or deleted by mistake is one `gcloud storage cp` away.
  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }

  # 20 older versions of each state stay, however old they are.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      num_newer_versions = 20
      with_state         = "ARCHIVED"
    }
  }

  # Abandoned parts of uploads are never listed, but paid for.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  lifecycle {
    # A bucket that was made by hand elsewhere stays there: a move would replace it, with every state in it.
    ignore_changes = [location]
  }

  depends_on = [google_project_service.api]
}
