// Package kubernetes keeps the modules in go.mod whose files the script build copies.
package kubernetes

import _ "sigs.k8s.io/gateway-api/apis/v1" // Its folder config/crd.
