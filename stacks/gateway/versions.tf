terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 7.45"
    }
  }
}

# The API of keys wants to know which project a person's calls count for.
provider "google" {
  project               = var.project
  region                = var.region
  default_labels        = var.labels
  user_project_override = true
  billing_project       = var.project
}

provider "google-beta" {
  project               = var.project
  region                = var.region
  default_labels        = var.labels
  user_project_override = true
  billing_project       = var.project
}
