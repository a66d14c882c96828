//go:build race

package cli_test

// raceDetector tells whether this program, and those it starts, were built to find data races. They are
// some ten times slower.
const raceDetector = true

const (
	allFlights = 4_000
	crashKills = 10
)
