mock_provider "google-beta" {
  mock_resource "google_apikeys_key" {
    defaults = {
      key_string = "secret-of-the-mock"
    }
  }

  mock_resource "google_api_gateway_api" {
    defaults = {
      managed_service = "latam-1a2b3c.apigateway.my-project.cloud.goog"
    }
  }

  mock_resource "google_api_gateway_gateway" {
    defaults = {
      default_hostname = "latam-1a2b3c.uc.gateway.dev"
    }
  }
}

variables {
  project          = "my-project"
  region           = "us-central1"
  name             = "latam"
  labels           = { app = "latam" }
  gateway          = "latam"
  gateway_api      = "latam"
  gateway_account  = "latam-gateway"
  gateway_document = "openapi: \"3.0.4\"\n"
  api_consumers    = ["dashboard", "partner"]
}

run "the_config_is_named_after_its_content" {
  assert {
    condition     = can(regex("^latam-[0-9a-f]{12}$", google_api_gateway_api_config.main.api_config_id))
    error_message = "The config is named ${google_api_gateway_api_config.main.api_config_id}."
  }
  assert {
    condition     = base64decode(google_api_gateway_api_config.main.openapi_documents[0].document[0].contents) == var.gateway_document
    error_message = "The config has another document."
  }
  assert {
    condition     = google_api_gateway_api_config.main.gateway_config[0].backend_config[0].google_service_account == "latam-gateway@my-project.iam.gserviceaccount.com"
    error_message = "The gateway has another identity towards serve."
  }
}

run "the_same_content_is_the_same_config" {
  assert {
    condition     = output.config == run.the_config_is_named_after_its_content.config
    error_message = "Nothing changed, but the config did."
  }
}

run "other_content_is_another_config" {
  variables {
    gateway_document = "openapi: \"3.0.4\"\ninfo: {}\n"
  }

  assert {
    condition     = output.config != run.the_config_is_named_after_its_content.config
    error_message = "The new config would have to take the name of the one in force."
  }
}

run "another_identity_is_another_config" {
  variables {
    gateway_account = "latam-gateway2"
  }

  assert {
    condition     = output.config != run.the_config_is_named_after_its_content.config && output.config != run.other_content_is_another_config.config
    error_message = "A config cannot change its identity."
  }
}

run "keys_open_this_api_only" {
  variables {
    gateway_account = "latam-gateway2"
  }

  assert {
    condition     = toset(keys(output.api_keys)) == toset(["dashboard", "partner"])
    error_message = "Each consumer has one key."
  }
  assert {
    condition     = alltrue([for k in google_apikeys_key.consumers : length(k.restrictions) == 1 && one(k.restrictions[0].api_targets).service == "latam-1a2b3c.apigateway.my-project.cloud.goog"])
    error_message = "A key opens more than this API."
  }
  assert {
    condition     = can(regex("^latam-partner-[0-9a-f]{6}$", google_apikeys_key.consumers["partner"].name))
    error_message = "The key is named ${google_apikeys_key.consumers["partner"].name}."
  }
  assert {
    condition     = issensitive(output.api_keys)
    error_message = "The keys would be shown."
  }
  assert {
    condition     = output.url == "https://latam-1a2b3c.uc.gateway.dev"
    error_message = "The URL is ${output.url}."
  }
}

run "a_key_keeps_its_name_when_another_consumer_comes" {
  variables {
    gateway_account = "latam-gateway2"
    api_consumers   = ["dashboard", "partner", "third"]
  }

  assert {
    condition     = length(output.api_keys) == 3
    error_message = "The new consumer has no key."
  }
}

run "nothing_is_left_to_change" {
  command = plan

  variables {
    gateway_account = "latam-gateway2"
    api_consumers   = ["dashboard", "partner", "third"]
  }

  assert {
    condition     = can(regex("^latam-third-[0-9a-f]{6}$", google_apikeys_key.consumers["third"].name))
    error_message = "The name of a key is drawn anew with each plan."
  }
}

run "a_consumer_with_a_bad_name_is_refused" {
  command = plan

  variables {
    api_consumers = ["Partner One"]
  }

  expect_failures = [google_apikeys_key.consumers]
}

run "no_consumers_no_keys" {
  command = plan

  variables {
    api_consumers = []
  }

  assert {
    condition     = length(google_apikeys_key.consumers) == 0
    error_message = "There is a key of nobody."
  }
}
