locals {
  # The one column family of every table.
  family = "d"

  rows = { for name, dataset in var.datasets : dataset.table => {
    retention_seconds = dataset.retention_seconds
    split_keys        = dataset.split_keys
  } }

  # The entries of an index grow old with their rows, and spread by fields of their own.
  indexes = merge([for name, dataset in var.datasets : { for table in dataset.index_tables : table => {
    retention_seconds = dataset.retention_seconds
    split_keys        = []
  } }]...)

  tables = merge(local.rows, local.indexes)
}

resource "google_bigtable_table" "tables" {
  for_each = local.tables

  name                = each.key
  instance_name       = google_bigtable_instance.main.name
  split_keys          = each.value.split_keys
  deletion_protection = var.deletion_protection ? "PROTECTED" : "UNPROTECTED"

  column_family {
    family = local.family
  }

  automated_backup_policy {
    retention_period = var.backup_retention_days == 0 ? "0" : "${24 * var.backup_retention_days}h0m0s"
    frequency        = var.backup_retention_days == 0 ? "0" : "24h0m0s"
  }

  lifecycle {
    # They count when a table is made. Later Bigtable splits by itself, and a change would replace the table.
    ignore_changes = [split_keys]

    precondition {
      condition     = var.backup_retention_days == 0 || var.backup_retention_days >= 3 && var.backup_retention_days <= 90
      error_message = "backup_retention_days is ${var.backup_retention_days}; Bigtable keeps automated backups for 3 to 90 days, and 0 makes none."
    }
  }
}

# A row is its newest event, so one version of a cell is kept; with a retention, cells go when they are
# as old, too. The rule is the one that latamctl gives the tables of local engines.
resource "google_bigtable_gc_policy" "tables" {
  for_each = local.tables

  instance_name = google_bigtable_instance.main.name
  table         = google_bigtable_table.tables[each.key].name
  column_family = local.family

  gc_rules = each.value.retention_seconds == 0 ? jsonencode({
    rules = [{ max_version = 1 }]
    }) : jsonencode({
    mode  = "union"
    rules = [{ max_version = 1 }, { max_age = "${each.value.retention_seconds}s" }]
  })

  # A longer retention of a replicated table is let through: the clusters agree again by themselves.
  ignore_warnings = true

  # Removing the rule from a table that stays would let it grow without end; a table that goes takes it along.
  deletion_policy = "ABANDON"
}
