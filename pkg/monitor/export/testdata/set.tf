# Written by latamctl monitors export --format terraform, for stack latam-prod.
terraform {
  required_providers {
    datadog = {
      source  = "DataDog/datadog"
      version = "~> 4.0"
    }
  }
}

resource "datadog_metric_tag_configuration" "http_server_request_duration" {
  metric_name         = "http.server.request.duration"
  metric_type         = "distribution"
  tags                = ["env", "http.route"]
  include_percentiles = true
}

resource "datadog_monitor" "flow-dead_stars" {
  name    = "[prod] flow-dead_stars"
  type    = "query alert"
  query   = "avg(last_4h):anomalies(sum:a.b{*}, 'agile', 3, interval=60) >= 1"
  message = ""
  tags    = ["env:prod"]
  monitor_thresholds {
    critical = "1"
  }

  monitor_threshold_windows {
    recovery_window = "last_15m"
    trigger_window  = "last_15m"
  }
}

resource "datadog_monitor" "http-latency-burn-budget" {
  name    = "[prod] http-latency-burn-budget"
  type    = "slo alert"
  query   = "error_budget(\"${datadog_service_level_objective.http-latency.id}\").over(\"30d\") > 75"
  message = ""
  tags    = ["burn_tier:budget"]
  monitor_thresholds {
    critical = "75"
  }
}

resource "datadog_monitor" "http-latency-burn-fast" {
  name    = "[prod] http-latency-burn-fast"
  type    = "slo alert"
  query   = "burn_rate(\"${datadog_service_level_objective.http-latency.id}\").over(\"30d\").long_window(\"1h\").short_window(\"5m\") > 14.4"
  message = "Burns. @pagerduty-latam @oncall@example.com "
  tags    = ["burn_tier:fast"]
  monitor_thresholds {
    critical = "14.4"
  }
}

resource "datadog_monitor" "http-latency-burn-slow90" {
  name    = "[prod] http-latency-burn-slow90"
  type    = "slo alert"
  query   = "burn_rate(\"${datadog_service_level_objective.http-latency.id}\").over(\"90d\").long_window(\"24h\").short_window(\"2h\") > 4.5"
  message = "Burns. @jira-latam "
  tags    = ["burn_tier:slow90"]
  monitor_thresholds {
    critical = "4.5"
  }
}

resource "datadog_monitor" "ingest-errors" {
  name              = "[prod] ingest-errors"
  type              = "query alert"
  query             = "max(last_5m):default_zero(sum:latam.errors{env:prod,service:latam-ingest}.as_count().rollup(sum, 60)) > 10"
  message           = "{{#is_alert}}{{value}} errors in \"a minute\", costs $${5} or %%{6} @pagerduty-latam {{/is_alert}}\nRunbook: https://example.com/a.md"
  tags              = ["env:prod", "team:data"]
  priority          = "1"
  include_tags      = true
  on_missing_data   = "default"
  evaluation_delay  = 60
  renotify_interval = 30
  renotify_statuses = ["alert", "no data"]

  monitor_thresholds {
    critical          = "10"
    critical_recovery = "5.5"
    warning           = "7"
  }
}

resource "datadog_monitor" "stalled" {
  name         = "[prod] stalled"
  type         = "composite"
  query        = "${datadog_monitor.ingest-errors.id} && !${datadog_monitor.flow-dead_stars.id}"
  message      = "Stalled."
  tags         = ["env:prod"]
  include_tags = true
}

resource "datadog_service_level_objective" "good-minutes" {
  name             = "[prod] Minutes with few errors"
  type             = "time_slice"
  tags             = ["env:prod"]
  timeframe        = "30d"
  target_threshold = 95

  thresholds {
    timeframe = "30d"
    target    = 95
  }

  sli_specification {
    time_slice {
      comparator             = "<="
      threshold              = 10
      query_interval_seconds = 60

      query {
        formula {
          formula_expression = "default_zero(errors)"
        }

        query {
          metric_query {
            data_source = "metrics"
            name        = "errors"
            query       = "sum:latam.errors{env:prod}.as_count()"
          }
        }
      }
    }
  }
}

resource "datadog_service_level_objective" "http-latency" {
  name              = "[prod] HTTP under 100 ms"
  type              = "metric"
  description       = "Of all answers."
  tags              = ["env:prod", "service:latam-serve"]
  timeframe         = "30d"
  target_threshold  = 99.9
  warning_threshold = 99.95

  thresholds {
    timeframe = "30d"
    target    = 99.9
    warning   = 99.95
  }

  thresholds {
    timeframe = "90d"
    target    = 95
  }

  query {
    numerator   = "count(v: v<=0.1):http.server.request.duration{env:prod}.as_count()"
    denominator = "(count(v: v<=0.1):http.server.request.duration{env:prod}.as_count()) + (count(v: v>0.1):http.server.request.duration{env:prod}.as_count())"
  }
}

resource "datadog_dashboard_json" "system" {
  dashboard = jsonencode({
    "description" = "All of it."
    "layout_type" = "ordered"
    "title"       = "latam: the system"
    "widgets" = [
      {
        "definition" = {
          "slo_id"       = datadog_service_level_objective.http-latency.id
          "time_windows" = ["30d", "90d"]
          "type"         = "slo"
          "view_type"    = "detail"
        }
        "layout" = {
          "height" = 3
          "width"  = 4
          "x"      = 0
          "y"      = 0
        }
      },
      {
        "definition" = {
          "content" = "See <a> & ${datadog_monitor.stalled.id}"
          "type"    = "note"
        }
      },
    ]
  })
}
