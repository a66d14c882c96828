package datadog_test

import (
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
)

var _ monitor.Remote = (*datadog.Client)(nil)
