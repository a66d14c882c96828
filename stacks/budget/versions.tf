terraform {
  required_version = ">= 1.9"

  required_providers {
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 7.45"
    }
  }
}

provider "google-beta" {
  project        = var.project
  region         = var.region
  default_labels = var.labels

  # The budgets API bills its calls to a project. With the credentials of a person it takes the
  # project from here, and refuses the call when there is none.
  billing_project       = var.project
  user_project_override = true
}
