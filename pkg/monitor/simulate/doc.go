// Package simulate runs the tests of monitors and SLOs: it evaluates their queries on series that a
// test gives, follows their states as Datadog does, and compares with what the test expects. It asks
// nobody. What it cannot evaluate it says; such a test fails, it never passes.
//
// # Series
//
// Series are written as promtool writes them, one point for each interval, the first at 0s:
//
//	5              one point
//	0x5            6 points: the value and 5 repetitions
//	1+2x3          1 3 5 7: the value and 3 steps
//	10-2x3         10 8 6 4
//	_              a missing point
//	_x3            3 missing points
//	{0.04:95 0.2:5}x9   10 points of a distribution, each of 95 values of 0.04 and 5 of 0.2
//
// A point of a count is how much was counted in its interval. Before 0s each series had its first
// value all the time; after its last point it is missing. Of an SLO everything was good before 0s.
//
// # Evaluation
//
// Each interval a monitor is evaluated on the points of its window, which are those after now-window
// up to now, both earlier by evaluation_delay. docs/monitors-test.md lists what is evaluated and how.
package simulate
