//go:build race

package query

// raceDetector makes the engine check itself at every step, which costs a hundred times as much.
const raceDetector = true
