//go:build fault

package fault_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/testkit"
	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

const flightsDeclaration = `
version: 1
name: latam
datasets:
  flights:
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$"}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
      remark:         {type: string}
    key: [origin, departed_at, destination]
    time: departed_at
    indexes: {by_destination: [destination, departed_at]}
environments:
  local: {engine: embedded}
`

// load makes records of about 1 KiB. Its zero shares make healthy records only.
type load struct {
	rng    *rand.Rand
	worker int
	// duplicates and poison are shares; disorder is how far apart the order of the records and that
	// of their publication may be.
	duplicates, poison float64
	disorder           int
	remark             int // bytes; 0 is 900

	last  int
	sent  []testkit.Attempt
	ahead []testkit.Attempt // made and not yet handed out, for the disorder
	extra func(l *load) (testkit.Attempt, bool)
}

// batch makes n attempts.
func (l *load) batch(n int) []testkit.Attempt {
	attempts := make([]testkit.Attempt, n)
	for i := range attempts {
		attempts[i] = l.next()
	}
	return attempts
}

func (l *load) next() testkit.Attempt {
	for len(l.ahead) <= l.disorder {
		l.ahead = append(l.ahead, l.create())
	}
	i := l.rng.IntN(len(l.ahead))
	a := l.ahead[i]
	l.ahead[i] = l.ahead[len(l.ahead)-1]
	l.ahead = l.ahead[:len(l.ahead)-1]
	return a
}

func (l *load) create() testkit.Attempt {
	if l.extra != nil {
		if a, ok := l.extra(l); ok {
			return a
		}
	}
	switch at := l.rng.Float64(); {
	case at < l.poison:
		return l.poisoned()
	case at < l.poison+l.duplicates && len(l.sent) > 0:
		return l.sent[l.rng.IntN(len(l.sent))]
	}
	a := l.healthy()
	l.sent = append(l.sent, a)
	return a
}

// flight is a new key each time.
func (l *load) flight() (origin, at, destination string) {
	l.last++
	origin = []string{"SCL", "LIM", "GRU", "BOG", "EZE", "MIA"}[l.rng.IntN(6)]
	at = time.Date(2020, 1, 1, 0, 0, l.last, 0, time.UTC).Format(time.RFC3339)
	return origin, at, fmt.Sprintf("W%c%c", 'A'+l.worker/26, 'A'+l.worker%26)
}

func (l *load) healthy() testkit.Attempt {
	origin, at, destination := l.flight()
	size := l.remark
	if size == 0 {
		size = 900
	}
	record := fmt.Sprintf(`{"origin":%q,"departed_at":%q,"destination":%q,"delay_minutes":%d`, origin, at, destination, l.rng.IntN(200)-20)
	if l.rng.IntN(10) > 0 {
		record += fmt.Sprintf(`,"distance_miles":%d`, l.rng.IntN(9000))
	}
	return testkit.Attempt{Key: origin + "," + at + "," + destination, Payload: record + fmt.Sprintf(`,"remark":%q}`, text(l.rng, size))}
}

// text is n letters that no other record has.
func text(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

func (l *load) poisoned() testkit.Attempt {
	origin, at, destination := l.flight()
	kinds := []struct{ reason, record string }{
		{"bad_json", `{"origin":"%s","departed_at":"%s","destination":"%s"`},
		{"unknown_field", `{"origin":"%s","departed_at":"%s","destination":"%s","gate":7}`},
		{"missing_field", `{"origin":"%s","departed_at":"%s","destination":null,"delay_minutes":7}%.0s`},
		{"wrong_type", `{"origin":"%s","departed_at":"%s","destination":"%s","delay_minutes":"7"}`},
		{"pattern", `{"origin":"%s","departed_at":"%s","destination":"%s?"}`},
		{"range", `{"origin":"%s","departed_at":"%s","destination":"%s","distance_miles":-1}`},
	}
	kind := kinds[l.rng.IntN(len(kinds))]
	return testkit.Attempt{
		Key: origin + "," + at + "," + destination, Reason: kind.reason,
		Payload: fmt.Sprintf(kind.record, origin, at, destination),
	}
}

// shapeOf reads a record as anyone would who knows JSON and the declaration.
func shapeOf(ds *dataset.Dataset) testkit.Shape {
	return testkit.Shape{
		Cells: func(payload string) []testkit.Cell {
			record := decode(payload)
			at, _ := time.Parse(time.RFC3339Nano, fmt.Sprint(record[ds.Time.Name]))
			cells := make([]testkit.Cell, len(ds.Fields))
			for i, f := range ds.Fields {
				cells[i] = testkit.Cell{Column: dataset.Family + ":" + f.Name, Time: at.Truncate(time.Millisecond)}
				if v, ok := record[f.Name]; ok {
					cells[i].Value = fmt.Sprint(v)
				}
			}
			return cells
		},
		Identity: func(row testkit.Row) string {
			value := map[string]string{}
			for _, c := range row.Cells {
				value[strings.TrimPrefix(c.Column, dataset.Family+":")] = c.Value
			}
			key := make([]string, len(ds.Key))
			for i, f := range ds.Key {
				key[i] = value[f.Name]
			}
			return strings.Join(key, ",")
		},
	}
}

func decode(payload string) map[string]any {
	var record map[string]any
	dec := json.NewDecoder(strings.NewReader(payload))
	dec.UseNumber()
	_ = dec.Decode(&record) // A record that is none has no field.
	return record
}

// publishAll hands over total attempts of each load in batches, the loads at the same time.
func (r *rig) publishAll(total int, loads ...*load) {
	var all sync.WaitGroup
	for i, l := range loads {
		all.Go(func() {
			for left := total*(i+1)/len(loads) - total*i/len(loads); left > 0; {
				n := min(left, 1+l.rng.IntN(100))
				r.publish(l.batch(n))
				left -= n
			}
		})
	}
	all.Wait()
}

// mixed are two publishers of what every fault test publishes: 5 % duplicates, 1 % poison, disorder.
func (r *rig) mixed() []*load {
	loads := make([]*load, 2)
	for i := range loads {
		loads[i] = &load{
			rng: rand.New(rand.NewPCG(r.opts.seed, uint64(10+i))), worker: i,
			duplicates: 0.05, poison: 0.01, disorder: 200,
		}
	}
	return loads
}

// noFaults and slowWrites are what the Bigtable of a test does.
var (
	noFaults   = rpcfault.Writes{}
	slowWrites = rpcfault.Writes{Slow: 1, Delay: 200 * time.Millisecond}
)
