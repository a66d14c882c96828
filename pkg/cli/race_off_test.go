//go:build !race

package cli_test

// raceDetector tells whether this program, and those it starts, were built to find data races.
const raceDetector = false

const (
	// allFlights is how many records of the real file are published.
	allFlights = 20_000
	// crashKills is how often a crash test kills, if nothing else is asked for.
	crashKills = 20
)
