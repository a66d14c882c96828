# The API is a service of its own once it has a config. Keys are for it, and only where it is enabled.
resource "google_project_service" "api" {
  provider = google-beta

  project            = var.project
  service            = google_api_gateway_api.main.managed_service
  disable_on_destroy = false

  depends_on = [google_api_gateway_api_config.main]
}

# A deleted key keeps its name for 30 days. So each key has a part in its name that a new one does not
# share; it is drawn when the key is made and stays.
resource "terraform_data" "draw" {
  for_each = toset(var.api_consumers)

  input = substr(sha256(timestamp()), 0, 6)

  lifecycle {
    ignore_changes = [input]
  }
}

# A consumer gets a new key beside the old one by a second name, and the old one goes with the first name.
resource "google_apikeys_key" "consumers" {
  for_each = toset(var.api_consumers)
  provider = google-beta

  name         = "${var.name}-${each.key}-${terraform_data.draw[each.key].output}"
  display_name = "${var.name} ${each.key}"

  restrictions {
    api_targets {
      service = google_project_service.api.service
    }
  }

  lifecycle {
    precondition {
      condition     = can(regex("^[a-z][a-z0-9-]*$", each.key)) && length(var.name) + length(each.key) <= 55
      error_message = "api_consumers has ${each.key}; a name has lower-case letters, digits and -, begins with a letter, and has at most ${55 - length(var.name)} characters."
    }
  }
}
