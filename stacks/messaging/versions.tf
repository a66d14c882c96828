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
}
