terraform {
  required_version = ">= 1.9"

  required_providers {
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 7.45"
    }
  }
}

# The API of keys wants to know which project a person's calls count for.
provider "google-beta" {
  project               = var.project
  region                = var.region
  default_labels        = var.labels
  user_project_override = true
  billing_project       = var.project
}
