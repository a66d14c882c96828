locals {
  # A cluster is named after its zone: latam-b is the one in us-central1-b.
  clusters = { for zone in var.bigtable_zones : "${var.name}-${reverse(split("-", zone))[0]}" => zone... }
}

resource "google_bigtable_instance" "main" {
  name         = var.bigtable_instance
  display_name = var.name

  # Terraform refuses to delete the instance while this is true, and never deletes backups with it.
  deletion_protection = var.deletion_protection
  force_destroy       = false

  dynamic "cluster" {
    for_each = local.clusters

    content {
      cluster_id   = cluster.key
      zone         = cluster.value[0]
      storage_type = var.bigtable_storage

      autoscaling_config {
        min_nodes  = var.bigtable_min_nodes
        max_nodes  = var.bigtable_max_nodes
        cpu_target = var.bigtable_cpu_target
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.clusters) == length(var.bigtable_zones) && length(local.clusters) > 0
      error_message = "bigtable_zones is ${jsonencode(var.bigtable_zones)}; it needs a zone at least, and zones that end in different letters, because clusters are named after these."
    }
    precondition {
      condition     = var.bigtable_min_nodes >= 1 && var.bigtable_min_nodes <= var.bigtable_max_nodes && var.bigtable_max_nodes <= 10 * var.bigtable_min_nodes
      error_message = "bigtable_min_nodes is ${var.bigtable_min_nodes} and bigtable_max_nodes is ${var.bigtable_max_nodes}; Bigtable takes 1 at least, and at most ten times the minimum."
    }
    precondition {
      condition     = var.bigtable_cpu_target >= 10 && var.bigtable_cpu_target <= 80
      error_message = "bigtable_cpu_target is ${var.bigtable_cpu_target}; Bigtable takes 10 to 80 percent."
    }
  }
}
