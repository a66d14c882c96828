mock_provider "google-beta" {}

mock_provider "helm" {}

variables {
  project                   = "latam-prod"
  region                    = "us-central1"
  name                      = "latam"
  environment               = "prod"
  labels                    = { app = "latam", managed-by = "latamctl" }
  cluster                   = "latam"
  cluster_endpoint          = "gke-0123.us-central1.gke.goog"
  cluster_ca                = ""
  datadog_site              = "datadoghq.eu"
  datadog_secret            = "datadog-keys"
  datadog_app_secret        = ""
  datadog_integration_email = "ddgci-0123@datadog-gci-sts.iam.gserviceaccount.com"
}

run "agent_and_integration" {
  command = plan

  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).datadog.apiKeyExistingSecret == "datadog-keys" && !can(yamldecode(helm_release.datadog.values[0]).datadog.apiKey)
    error_message = "The Agent must take its key from the secret; a key in values is a key in the state."
  }
  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).clusterAgent.tokenExistingSecret == "datadog-token" && !can(yamldecode(helm_release.datadog.values[0]).clusterAgent.token)
    error_message = "The token between the parts of the Agent must come from a secret; the chart would write one into the release, which is a config map."
  }
  assert {
    condition     = !yamldecode(helm_release.datadog.values[0]).remoteConfiguration.enabled
    error_message = "Nobody may change the Agent from Datadog's side."
  }
  assert {
    condition     = !helm_release.datadog.wait
    error_message = "The secret comes after this stack, so nothing may wait for the Agent."
  }

  assert {
    condition = alltrue([
      for protocol, port in { grpc = "4317", http = "4318" } : alltrue([
        yamldecode(helm_release.datadog.values[0]).datadog.otlp.receiver.protocols[protocol].enabled,
        !yamldecode(helm_release.datadog.values[0]).datadog.otlp.receiver.protocols[protocol].useHostPort,
        endswith(yamldecode(helm_release.datadog.values[0]).datadog.otlp.receiver.protocols[protocol].endpoint, ":${port}"),
      ])
    ])
    error_message = "OTLP must be open on both ports of the Agent, and not on the node."
  }
  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).datadog.site == "datadoghq.eu" && contains(yamldecode(helm_release.datadog.values[0]).datadog.tags, "env:prod")
    error_message = "What arrives must go to the right site under the environment's name."
  }

  assert {
    condition     = google_service_account_iam_member.datadog[0].role == "roles/iam.serviceAccountTokenCreator" && google_service_account_iam_member.datadog[0].member == "serviceAccount:ddgci-0123@datadog-gci-sts.iam.gserviceaccount.com"
    error_message = "Datadog's own account must be able to take ours."
  }
  assert {
    condition     = alltrue([for role in keys(google_project_iam_member.datadog) : role == "roles/browser" || endswith(role, ".viewer")])
    error_message = "The integration must only read: ${join(", ", keys(google_project_iam_member.datadog))}"
  }
}

run "tells_no_metrics" {
  command = plan

  assert {
    condition     = !yamldecode(helm_release.datadog.values[0]).clusterAgent.metricsProvider.enabled && !can(yamldecode(helm_release.datadog.values[0]).datadog.appKeyExistingSecret)
    error_message = "Without the name of a secret the Cluster Agent must not wait for an application key."
  }
}

run "tells_metrics" {
  command = plan

  variables {
    datadog_app_secret = "datadog-app"
  }

  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).clusterAgent.metricsProvider.enabled && yamldecode(helm_release.datadog.values[0]).clusterAgent.metricsProvider.useDatadogMetrics
    error_message = "The Cluster Agent must answer the external metrics API, and bring the kind DatadogMetric."
  }
  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).datadog.appKeyExistingSecret == "datadog-app" && !can(yamldecode(helm_release.datadog.values[0]).datadog.appKey)
    error_message = "The application key must come from the secret; a key in values is a key in the state."
  }
  assert {
    condition     = yamldecode(helm_release.datadog.values[0]).datadog.apiKeyExistingSecret == "datadog-keys" && yamldecode(helm_release.datadog.values[0]).clusterAgent.replicas == 2
    error_message = "The rest must stay as it is."
  }
}

run "no_integration" {
  command = plan

  variables {
    datadog_integration_email = ""
  }

  assert {
    condition     = length(google_service_account.datadog) + length(google_project_iam_member.datadog) + length(google_service_account_iam_member.datadog) == 0 && output.integration_email == ""
    error_message = "Without Datadog's account nobody may take ours."
  }
}

run "no_cluster_yet" {
  command = plan

  variables {
    cluster_endpoint = ""
  }

  expect_failures = [helm_release.datadog]
}
