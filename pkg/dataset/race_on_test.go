//go:build race

package dataset

// raceDetector adds allocations of its own.
const raceDetector = true
