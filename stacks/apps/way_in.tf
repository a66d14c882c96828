locals {
  entry = "${var.name}-api"

  # A certificate cannot change, nor go while it is in use. So another host or another way to authorize it
  # is another name, made before the old one goes. The manifests know the map only.
  certificate = "${local.entry}-${substr(sha256("${var.backend_host} ${var.dns_zone}"), 0, 8)}"
}

# The address, the certificate map and the two policies are used by name in the Kubernetes manifests.
resource "google_compute_global_address" "api" {
  name        = var.address
  description = "Way in of the API gateway to serve"
  ip_version  = "IPV4"
}

resource "google_compute_ssl_policy" "api" {
  name            = local.entry
  description     = "TLS 1.2 and newer, with forward secrecy"
  min_tls_version = "TLS_1_2"
  profile         = "MODERN"
}

resource "google_dns_record_set" "api" {
  count = var.dns_zone == "" ? 0 : 1

  managed_zone = var.dns_zone
  name         = "${var.backend_host}."
  type         = "A"
  ttl          = 300
  rrdatas      = [google_compute_global_address.api.address]
}

# With the zone at hand the certificate is issued before anything answers; without, once the name
# points to the load balancer.
resource "google_certificate_manager_dns_authorization" "api" {
  count = var.dns_zone == "" ? 0 : 1

  name        = local.certificate
  description = "Shows that ${var.backend_host} is ours"
  domain      = var.backend_host

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_dns_record_set" "authorization" {
  count = var.dns_zone == "" ? 0 : 1

  managed_zone = var.dns_zone
  name         = google_certificate_manager_dns_authorization.api[0].dns_resource_record[0].name
  type         = google_certificate_manager_dns_authorization.api[0].dns_resource_record[0].type
  ttl          = 300
  rrdatas      = [google_certificate_manager_dns_authorization.api[0].dns_resource_record[0].data]
}

resource "google_certificate_manager_certificate" "api" {
  name        = local.certificate
  description = "Certificate of ${var.backend_host}"

  managed {
    domains            = [var.backend_host]
    dns_authorizations = google_certificate_manager_dns_authorization.api[*].id
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_certificate_manager_certificate_map" "api" {
  name        = local.entry
  description = "Certificates of the load balancer before serve"
}

resource "google_certificate_manager_certificate_map_entry" "api" {
  name         = local.entry
  map          = google_certificate_manager_certificate_map.api.name
  hostname     = var.backend_host
  certificates = [google_certificate_manager_certificate.api.id]
}
