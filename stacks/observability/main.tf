locals {
  # A namespace of its own: the Agent reads the node, which the namespace of the applications forbids.
  namespace = "datadog"

  # Where `latamctl up` puts what the parts of the Agent show each other.
  token_secret = "datadog-token"

  # Applications send to the Service datadog, which stays on their node. Ports of the node itself would
  # be open to the whole network.
  otlp = {
    grpc = { enabled = true, endpoint = "0.0.0.0:4317", useHostPort = false }
    http = { enabled = true, endpoint = "0.0.0.0:4318", useHostPort = false }
  }

  # With an application key the Cluster Agent answers the cluster's external metrics API, for the autoscaler
  # of ingest. Its pods do not start without the key, so it is asked for only where somebody put it there.
  tells_metrics = var.datadog_app_secret != ""

  agent = {
    providers = { gke = { cos = true } }

    # What the Agent does is decided here and not by whoever signs in at Datadog.
    remoteConfiguration = { enabled = false }

    datadog = merge(local.tells_metrics ? { appKeyExistingSecret = var.datadog_app_secret } : {}, {
      site        = var.datadog_site
      clusterName = var.cluster
      tags        = [for key, value in merge(var.labels, { env = var.environment }) : "${key}:${value}"]

      # By name: the key is in no state and no plan.
      apiKeyExistingSecret = var.datadog_secret

      otlp = {
        receiver = { protocols = local.otlp }
        # Logs are collected from the containers' output, where they are when the Agent is not.
        logs = { enabled = false }
      }
      logs                 = { enabled = true, containerCollectAll = true }
      containerExcludeLogs = "kube_namespace:kube-system kube_namespace:gke-managed-.* kube_namespace:gmp-.*"

      # Traces arrive by OTLP; nothing speaks Datadog's own protocol.
      apm           = { portEnabled = false, socketEnabled = false }
      dogstatsd     = { useHostPort = false, useSocketVolume = false }
      processAgent  = { enabled = false, processCollection = false }
      collectEvents = true

      kubeStateMetricsEnabled = false
      kubeStateMetricsCore    = { enabled = true }
      operator                = { enabled = false }
    })

    clusterAgent = {
      enabled             = true
      replicas            = 2
      pdb                 = { create = true }
      admissionController = { enabled = false }
      metricsProvider     = { enabled = local.tells_metrics, useDatadogMetrics = local.tells_metrics }

      # The chart would draw a token of its own with each release, and leave it where the release is kept.
      tokenExistingSecret = local.token_secret
    }

    agents = {
      containers = {
        agent = {
          resources = {
            requests = { cpu = "200m", memory = "256Mi" }
            limits   = { memory = "512Mi" }
          }
        }
      }
    }
  }
}

resource "helm_release" "datadog" {
  name       = "datadog"
  repository = "https://helm.datadoghq.com"
  chart      = "datadog"
  version    = "3.138.0"

  namespace        = local.namespace
  create_namespace = true

  values = [yamlencode(local.agent)]

  # The Agent waits for its key, which comes with the manifests, after this. Waiting for the Agent
  # here would be waiting for ourselves.
  wait            = false
  cleanup_on_fail = true
  max_history     = 10
  timeout         = 600

  lifecycle {
    precondition {
      condition     = var.cluster_endpoint != "" && var.datadog_secret != ""
      error_message = "The Agent needs the cluster's endpoint and the name of the secret with its key, but they are '${var.cluster_endpoint}' and '${var.datadog_secret}'. Apply the stack cluster first; set datadog_secret."
    }
  }
}
