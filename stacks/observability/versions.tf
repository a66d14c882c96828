terraform {
  required_version = ">= 1.9"

  required_providers {
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 7.45"
    }
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.1"
    }
  }
}

provider "google-beta" {
  project        = var.project
  region         = var.region
  default_labels = var.labels
}

# Whoever runs Terraform is who talks to the cluster, by a token that lives for an hour: a saved plan of this stack
# that is older has to be made again.
data "google_client_config" "this" {
  provider = google-beta
}

provider "helm" {
  kubernetes = {
    host                   = "https://${var.cluster_endpoint}"
    token                  = data.google_client_config.this.access_token
    cluster_ca_certificate = var.cluster_ca == "" ? null : base64decode(var.cluster_ca)
  }

  # Releases hold no secret here. In config maps, an identity that may not read secrets can plan.
  helm_driver = "configmap"
}
