package datadog

import "github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

var _ datadogV1.MonitorsApi
