// Package examples holds the example that is built into the binary.
package examples

import _ "embed"

// Declaration is the latam.yaml that runs when there is none.
//
//go:embed flights/latam.yaml
var Declaration []byte

// Flights are the records of the example's dataset flights, one JSON object a line.
//
//go:embed flights/flights-2k.ndjson
var Flights []byte
