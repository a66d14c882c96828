package declare_test

// small uses every construct of the format once.
const small = `version: 1
tags: [team:data]
values: {limit: 10, zones: [b, c]}
notify:
  page: {pages: true, description: Somebody is woken up}
  chat: {description: A channel}
  ticket: {}
metrics:
  shop.orders: {type: count, tags: [shop]}
  shop.time: {type: distribution, tags: [shop], bounds: [0.1, 0.2], unit: s}
profiles:
  base: {include_tags: true, timeout_h: 0}
  page: {extends: base, renotify_interval: 30, renotify_occurrences: 4, renotify_statuses: [alert]}
  heartbeat: {on_missing_data: show_and_notify_no_data}
templates:
  workload:
    params: {workload: null, most: 90}
    monitors:
      cpu:
        title: "${workload}: CPU"
        query: "avg(last_10m):sum:kubernetes.cpu.usage.total{kube_deployment:${workload}} by {pod_name} > ${critical}"
        thresholds: {critical: "${most}"}
        notify: {alert: chat}
        message: {alert: "{{pod_name.name}} of $${workload} is busy at {{value}}.", runbook: true}
use:
  serve: {template: workload, with: {workload: latam-serve}}
  ingest: {template: workload, with: {workload: latam-ingest, most: 80}}
monitors:
  errors:
    title: Errors
    priority: 1
    profile: page
    query: "max(last_5m):default_zero( sum:latam.errors{env:${env}}.as_count().rollup(sum, 60) )>${critical}"
    thresholds: {critical: "${limit}", warning: 7, critical_recovery: 5}
    options: {evaluation_delay: 60}
    notify: {alert: [page, "@webhook-incident"], warning: chat, recovery: chat}
    message: {alert: "{{value}} errors.", recovery: "No errors.", runbook: true}
    tags: ["area:application"]
  orders:
    extends: errors
    title: Orders
    query: "sum(last_5m):sum:shop.orders{env:${env}} by {shop}.as_count() > ${critical}"
    notify: {alert: chat, renotify: ticket}
    message: {renotify: Still., runbook: "https://example.com/orders"}
  silent:
    for_each: datasets
    title: "${each.name}: silent"
    profile: heartbeat
    query: "sum(last_10m):sum:latam.ingest.records{dataset:${each.name}}.as_count() < ${critical}"
    thresholds: {critical: 1}
    notify: {no_data: chat}
    message: {no_data: "Nothing of ${each.name}."}
  zone:
    for_each: "${zones}"
    title: "Zone ${each.value}"
    query: "avg(last_5m):avg:system.cpu.idle{zone:${region}-${each.key}} < ${critical}"
    thresholds: {critical: 5}
  both:
    for_each: {low: {least: 1}, high: {least: 100}}
    title: "Both ${each.key}"
    type: composite
    priority: 5
    query: "${ref:monitor.errors} && !${ref:monitor.silent-flights}"
    message: {alert: "Above ${each.least}."}
  check:
    title: A check
    type: service check
    query: '"kubernetes_state.node.network_unavailable".over("kube_cluster_name:gke").by("node").last(4).count_by_status()'
    thresholds: {critical: 3, warning: 2, ok: 2}
  off:
    enabled: "${gateway}"
    title: Off
    query: "avg(last_5m):avg:system.cpu.idle{*} < ${critical}"
    thresholds: {critical: 5}
  usual:
    title: Unusual
    query: "avg(last_4h):anomalies(sum:kubernetes.network.rx_bytes{*} by {kube_deployment}, 'agile', 3) >= ${critical}"
    thresholds: {critical: 1}
    threshold_windows: {trigger_window: last_15m, recovery_window: last_15m}
slos:
  latency:
    for_each: datasets
    title: "${each.name}: in time"
    description: Time to write.
    latency: {metric: latam.ingest.end_to_end.duration, threshold: "${each.ingest_latency}", filter: "dataset:${each.name}"}
    targets: {30d: 95, 90d: 95.5}
    warning: 97
    yearly: 95
    no_data: silent
    alerts: [fast, budget]
    notify: {page: page, ticket: [ticket, chat]}
  orders:
    title: Orders arrive
    ratio: {good: "sum:shop.orders{shop:a}.as_count()", bad: "sum:shop.orders{shop:a}.as_count() - sum:shop.orders{shop:b}.as_count()"}
    targets: {7d: 99}
    no_data: silent-flights
    alerts: none
  minutes:
    title: Quiet minutes
    slices: {query: "default_zero(sum:latam.errors{*}.as_count())", op: "<=", bound: 10, seconds: 60}
    targets: {30d: 95}
    no_data: silent-flights
dashboards:
  system:
    title: The system
    description: All of it.
    groups:
      - title: Left
        width: 6
        widgets:
          - {monitor: errors}
          - {monitor: errors, as: timeseries, title: Errors and limits}
          - {monitor: silent}
          - {title: Orders, query: "sum:shop.orders{*}.as_count() / 2", as: value, unit: orders}
          - {title: Slowest, query: "p95:shop.time{*} by {shop}", as: toplist}
      - title: Right
        width: 6
        widgets:
          - {note: "What *this* is."}
          - {monitor: both-low}
          - {monitor: off}
      - {title: Promises, width: 7, slos: all}
      - {title: Wide, width: 6, widgets: [{note: a}, {query: "sum:shop.orders{*} - (sum:shop.orders{*} - sum:shop.orders{*}) * 2"}]}
      - {title: Gone, monitors: [off]}
  dataset:
    for_each: datasets
    title: "Dataset ${each.name}"
    groups:
      - {title: Promises, slos: dataset, monitors: [silent, errors]}
    tags: ["team:web"]
`

// extended changes small as a team does in files of its own.
const extended = `version: 1
values: {limit: 20}
monitors:
  errors: {extends: errors, thresholds: {warning: 15}, message: {alert: "Too many errors."}}
  zone-b: {enabled: false}
  ingest-cpu: {enabled: false}
  mine:
    title: Mine
    query: "avg(last_5m):avg:system.cpu.idle{*} < ${critical}"
    thresholds: {critical: 5}
`
