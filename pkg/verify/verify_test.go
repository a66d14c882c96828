package verify_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify"
)

const declaration = `
version: 1
name: latam
datasets:
  flights:
    fields:
      origin:      {type: string, required: true, pattern: "^[A-Z]{3}$"}
      departed_at: {type: timestamp, required: true}
      delay:       {type: int64, minimum: -60, maximum: 5000}
    key: [origin, departed_at]
    time: departed_at
    indexes: {by_delay: [delay], by_time: [departed_at]}
`

// system is a small platform in memory that can be broken hop by hop.
type system struct {
	ds *dataset.Dataset

	// What is broken.
	apiDown, listBroken, publishRefused, ingestStopped, valuesChanged, poisonStored, noDeadLetters, wrongReason bool

	mu      sync.Mutex
	rows    map[string][]byte
	letters []bus.Message
	tables  map[string]bool // "table key" of every row and index entry
	nextID  int
}

func (s *system) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	switch {
	case s.apiDown:
		w.WriteHeader(http.StatusServiceUnavailable)
	case path == "/healthz":
	case path == "/v1/datasets/flights/rows":
		if s.listBroken {
			w.WriteHeader(http.StatusInternalServerError)
		}
	default:
		id := strings.TrimPrefix(path, "/v1/datasets/flights/rows/")
		row, ok := s.rows[id]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(row)
	}
}

func (s *system) Publish(_ context.Context, _ string, data []byte, _ map[string]string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.publishRefused {
		return "", fmt.Errorf("publish to topic flights: %w", bus.ErrNotFound)
	}
	s.nextID++
	id := fmt.Sprint(s.nextID)
	if s.ingestStopped {
		return id, nil
	}
	rec, err := s.ds.Decode(data, time.Now())
	if err != nil {
		s.reject(id, data, err)
		return id, nil
	}
	s.store(rec)
	return id, nil
}

func (s *system) store(rec dataset.Record) {
	id, err := s.ds.RowID(rec.RowKey())
	if err != nil {
		panic(err)
	}
	row, err := rec.AppendJSON(nil, id, s.ds.Fields)
	if err != nil {
		panic(err)
	}
	if s.valuesChanged {
		row = []byte(strings.Replace(string(row), `"delay":`, `"delay":1`, 1))
	}
	s.rows[id] = row
	s.tables["flights "+rec.RowKey()] = true
	for i, entry := range s.ds.IndexEntries(rec, time.Now()) {
		s.tables[s.ds.IndexTable(&s.ds.Indexes[i])+" "+entry.Key] = true
	}
}

func (s *system) reject(id string, data []byte, cause error) {
	if s.poisonStored {
		good := strings.Replace(string(data), `,"latamctl_verify_poison":true`, "", 1)
		if rec, err := s.ds.Decode([]byte(good), time.Now()); err == nil {
			s.store(rec)
		}
	}
	if s.noDeadLetters {
		return
	}
	reason, field := "unknown_field", "latamctl_verify_poison"
	if s.wrongReason || !strings.Contains(cause.Error(), field) {
		reason = "bad_json"
	}
	s.letters = append(s.letters, bus.Message{ID: "d" + id, Attributes: map[string]string{
		bus.AttrMessageID: id, bus.AttrReason: reason, bus.AttrField: field,
	}})
}

func (s *system) Receive(ctx context.Context, _ string, _ bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	s.mu.Lock()
	letters := append([]bus.Message{{ID: "other", Attributes: map[string]string{bus.AttrMessageID: "someone else's"}}}, s.letters...)
	s.mu.Unlock()
	var calls sync.WaitGroup
	for _, m := range letters {
		calls.Go(func() { handle(ctx, m) })
	}
	calls.Wait()
	<-ctx.Done()
	return nil
}

func (s *system) Delete(_ context.Context, table, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tables[table+" "+key] {
		return fmt.Errorf("table %s has no row %q", table, key)
	}
	delete(s.tables, table+" "+key)
	return nil
}

// TestEachBrokenHopIsNamed breaks one hop at a time and expects just its check to fail, with where to look.
func TestEachBrokenHopIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		broken func(*system)
		fails  string // check names, by comma
		next   string // in the failed check's next
	}{
		{"nothing", func(*system) {}, "", ""},
		{"API", func(s *system) { s.apiDown = true }, "api healthy,rows readable,canary readable,poison dead-lettered", "API"},
		{"list", func(s *system) { s.listBroken = true }, "rows readable", "table flights"},
		{"topic", func(s *system) { s.publishRefused = true }, "canary readable,poison dead-lettered", "topic flights"},
		{"ingest", func(s *system) { s.ingestStopped = true }, "canary readable,poison dead-lettered", "latamctl ingest"},
		{"values", func(s *system) { s.valuesChanged = true }, "canary readable", "table flights"},
		{"poison stored", func(s *system) { s.poisonStored = true }, "poison dead-lettered", "flights-dead"},
		{"dead letters", func(s *system) { s.noDeadLetters = true }, "poison dead-lettered", "flights-dead-inspect"},
		{"reason", func(s *system) { s.wrongReason = true }, "poison dead-lettered", "flights-dead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			report := runVerify(t, tt.broken, true)
			var failed []string
			for _, r := range report.Results {
				if r.Expected == "" || r.Seen == "" {
					t.Errorf("check %s does not say what was expected and seen: %+v", r.Check, r)
				}
				if r.Status == verify.Fail {
					failed = append(failed, r.Check)
					if r.Next == "" {
						t.Errorf("check %s does not say where to look", r.Check)
					}
				}
			}
			if got := strings.Join(failed, ","); got != tt.fails {
				t.Fatalf("failed checks %q, want %q\n%+v", got, tt.fails, report.Results)
			}
			if report.OK != (tt.fails == "") || report.Failed != len(failed) {
				t.Errorf("report says ok %v with %d failed", report.OK, report.Failed)
			}
			for _, r := range report.Results {
				if r.Status == verify.Fail && strings.Contains(r.Next, tt.next) {
					return
				}
			}
			if tt.next != "" {
				t.Errorf("no failed check points to %q: %+v", tt.next, report.Results)
			}
		})
	}
}

func TestWithoutPubSubTheChecksThatPublishAreSkipped(t *testing.T) {
	t.Parallel()
	report := runVerify(t, func(*system) {}, false)
	if !report.OK || report.Skipped != 2 || report.Passed != 2 {
		t.Errorf("got %+v, want 2 passed and 2 skipped", report)
	}
}

func runVerify(t *testing.T, breakIt func(*system), withBus bool) verify.Report {
	t.Helper()
	decl, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	s := &system{ds: decl.Datasets[0], rows: map[string][]byte{}, tables: map[string]bool{}}
	breakIt(s)
	server := httptest.NewServer(s)
	defer server.Close()
	deps := verify.Deps{HTTP: server.Client(), Rows: s, Now: time.Now}
	if withBus {
		deps.Bus = s
	}
	report := verify.Run(t.Context(), verify.Options{URL: server.URL, Datasets: decl.Datasets, Wait: 300 * time.Millisecond}, deps)
	if withBus && report.OK && (len(s.rows) != 1 || len(s.tables) != 0) {
		t.Errorf("of %d canaries these rows and entries are left: %v", len(s.rows), s.tables)
	}
	return report
}
