//go:build !race

package stacks_test

// raceDetector tells whether this program was built to find data races.
const raceDetector = false
