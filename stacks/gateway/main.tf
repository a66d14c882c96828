locals {
  # A config cannot change. Its name follows its content, so that the same content is the same config and
  # another is made beside the one in force.
  content = sha256(join("\n", [var.gateway_document, google_service_account.gateway.account_id]))
  config  = "${var.name}-${substr(local.content, 0, 12)}"
}

# The gateway shows serve an ID token of this identity. It has no roles: being it is all that counts.
resource "google_service_account" "gateway" {
  provider = google-beta

  account_id   = var.gateway_account
  display_name = "${var.name} gateway"
  description  = "API Gateway towards serve"
}

resource "google_api_gateway_api" "main" {
  provider = google-beta

  api_id       = var.gateway_api
  display_name = "${var.name} data API"
}

resource "google_api_gateway_api_config" "main" {
  provider = google-beta

  api           = google_api_gateway_api.main.api_id
  api_config_id = local.config
  display_name  = local.config

  openapi_documents {
    document {
      path     = "openapi.yaml"
      contents = base64encode(var.gateway_document)
    }
  }

  gateway_config {
    backend_config {
      google_service_account = "${google_service_account.gateway.account_id}@${var.project}.iam.gserviceaccount.com"
    }
  }

  lifecycle {
    # The gateway moves to the new config, and the old one goes when nothing uses it any more.
    create_before_destroy = true
  }
}

resource "google_api_gateway_gateway" "main" {
  provider = google-beta

  gateway_id   = var.gateway
  api_config   = google_api_gateway_api_config.main.id
  region       = var.region
  display_name = "${var.name} data API"
}
