package openapi

// backendName is what operations call the service behind the gateway.
const backendName = "serve"

// gatewayDeadline is a second less than the gateway's own, in seconds: whoever asks gets its answer.
const gatewayDeadline = 14.0

// batchCostEvery is how many ids of a batch-get cost as much as one get.
const batchCostEvery = 10

// addGateway adds what API Gateway has to know: where the service is, and the quotas. It enforces
// keys, tokens and quotas only; parameters and bodies are checked by the service.
func (b *builder) addGateway() {
	m := &Management{Backends: Map[*Backend]{{backendName, &Backend{
		Address: b.o.ServerURL, JWTAudience: b.o.GatewayAudience, Deadline: gatewayDeadline,
		PathTranslation: "APPEND_PATH_TO_ADDRESS", Protocol: "h2",
	}}}}
	for _, ds := range b.o.Declaration.Datasets {
		if !b.metered(ds.API.QuotaPerMinute, authOf(ds)) {
			continue
		}
		name := metricName(ds.Name)
		m.Metrics.Set(name, &Metric{DisplayName: "Requests to " + ds.Name})
		if m.Quota == nil {
			m.Quota = &QuotaLimits{}
		}
		m.Quota.Limits.Set(name, &QuotaLimit{Metric: name, Values: ds.API.QuotaPerMinute})
	}
	b.doc.Management, b.doc.Backend = m, backendName
	b.doc.Servers = []Server{{URL: "https://" + b.o.GatewayHost, Endpoint: &Endpoint{AllowCORS: false}}}
}

// metered says whether the gateway keeps the quota: it tells callers apart by their API keys only.
func (b *builder) metered(quota int, auth string) bool {
	return b.d.v30 && quota > 0 && (auth == authAPIKey || auth == authGateway)
}

func metricName(dataset string) string { return dataset + "-requests" }

// cost is what an operation takes from the quota, about what it costs the service.
func (b *builder) cost(ds *datasetNames, k kind) *Quota {
	if !b.metered(ds.API.QuotaPerMinute, authOf(ds.Dataset)) {
		return nil
	}
	units := 1
	switch k {
	case kindList, kindStats:
		units = 2
	case kindBatch:
		units = (b.o.Limits.MaxIDs + batchCostEvery - 1) / batchCostEvery
	case kindAggregate:
		units = 10
	}
	return &Quota{MetricCosts: Map[int]{{metricName(ds.Name), units}}}
}
