locals {
  # The gateway sends from a few addresses of Google's, so this is a limit against floods, not a quota:
  # quotas are by caller, in the gateway and in serve.
  requests_per_minute = 60000

  # Rules of the OWASP set that no honest read breaks, by priority. They look at reads only: a record that
  # is published is data, may hold any text, and is checked against the declaration.
  signatures = {
    2000 = "scannerdetection-v33-stable"
    2010 = "protocolattack-v33-stable"
    2020 = "lfi-v33-stable"
    2030 = "rce-v33-stable"
    2040 = "sessionfixation-v33-stable"
  }
}

# API Gateway has no addresses of its own that could be let in. What tells it from others is the ID token
# of its service account, which serve checks. Here goes whoever does not even try.
resource "google_compute_security_policy" "api" {
  name        = local.entry
  description = "Way in of the API gateway to serve"
  type        = "CLOUD_ARMOR"

  rule {
    priority    = 1000
    action      = "deny(403)"
    description = "Requests for another name, as scanners of addresses send"

    match {
      expr {
        expression = "!has(request.headers['host']) || request.headers['host'].lower() != '${lower(var.backend_host)}'"
      }
    }
  }

  rule {
    priority    = 1100
    action      = "deny(403)"
    description = "Requests without a token, which the gateway always sends"

    match {
      expr {
        expression = "!has(request.headers['authorization'])"
      }
    }
  }

  dynamic "rule" {
    for_each = local.signatures

    content {
      priority    = tonumber(rule.key)
      action      = "deny(403)"
      description = "Attacks: ${rule.value}"

      match {
        expr {
          expression = "request.method != 'POST' && evaluatePreconfiguredWaf('${rule.value}', {'sensitivity': 1})"
        }
      }
    }
  }

  rule {
    priority    = 9000
    action      = "throttle"
    description = "All others, up to a flood"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }

    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"

      rate_limit_threshold {
        count        = local.requests_per_minute
        interval_sec = 60
      }
    }
  }

  rule {
    priority    = 2147483647
    action      = "deny(403)"
    description = "Nothing gets here"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable          = true
      rule_visibility = "STANDARD"
    }
  }
}
