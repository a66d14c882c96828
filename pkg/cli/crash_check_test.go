package cli_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/testkit"
)

// settle waits until the system is quiet and nothing is missing. It gives up after crashSettle: the
// check says what is missing then.
func (l *crashLoad) settle() {
	l.t.Helper()
	began := time.Now()
	for time.Since(began) < crashSettle {
		l.awaitQuiet()
		total := testkit.Report{}
		for _, side := range l.reports() {
			total = total.Plus(side.report)
		}
		if total.Lost == 0 {
			l.t.Logf("settled in %s", time.Since(began).Round(time.Millisecond))
			return
		}
	}
}

// crashQuiet is how long nothing may happen for the system to count as quiet. It is far above the
// pause after which acknowledgements reach the disk.
const crashQuiet = 2 * time.Second

// awaitQuiet waits until nothing was delivered and nothing ingested for a while.
func (l *crashLoad) awaitQuiet() {
	l.t.Helper()
	seen, since := "", time.Now()
	eventually(l.t, crashSettle, func() (bool, string) {
		if now := l.activity(); now != seen {
			seen, since = now, time.Now()
		}
		return time.Since(since) >= crashQuiet, seen
	})
}

// activity changes whenever a message is received here or by ingest.
func (l *crashLoad) activity() string {
	deliveries, letters := l.received()
	return fmt.Sprintf("%d deliveries, %d letters, ingested: %s", len(deliveries), len(letters), l.ingested())
}

// ingested returns ingest's own count of the records that this process has settled, by outcome.
func (l *crashLoad) ingested() string {
	l.t.Helper()
	r, err := l.stack.address(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.Get(r.Admin + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	var counts []string
	for _, m := range regexp.MustCompile(`(?m)^latam_ingest_records_total\{.*outcome="(\w+)".*\} (\S+)$`).FindAllSubmatch(body, -1) {
		counts = append(counts, fmt.Sprintf("%s=%s", m[1], m[2]))
	}
	return strings.Join(counts, " ")
}

// settledStaysSettled kills the quiet system once more: what was acknowledged to it does not come
// again, and it works on.
func (l *crashLoad) settledStaysSettled(up *crashChild) {
	l.t.Helper()
	deliveries, letters := l.received()
	l.stack.kill(up)
	l.stack.awaitReady(l.stack.spawn())
	f := &flightSource{worker: 30, rng: l.random(30)}
	l.publish("flights", l.flights, []testkit.Attempt{f.healthy()}, crashSettle)
	m := &messageSource{last: 1 << 30, rng: l.random(31)}
	l.publish(crashTopic, l.messages, m.batch()[:1], crashSettle)
	eventually(l.t, crashSettle, func() (bool, string) {
		now, _ := l.received()
		ingested := l.ingested()
		return len(now) > len(deliveries) && strings.Contains(ingested, "ok="), fmt.Sprintf("%d deliveries, ingested %s", len(now), ingested)
	})
	l.awaitQuiet()
	deliveriesNow, lettersNow := l.received()
	if again := len(deliveriesNow) - len(deliveries) - 1; again != 0 {
		l.t.Errorf("%d messages were delivered again by a system that had been quiet for %s", again, crashQuiet)
	}
	if again := len(lettersNow) - len(letters); again != 0 {
		l.t.Errorf("%d dead letters were delivered again by a system that had been quiet for %s", again, crashQuiet)
	}
	if ingested := l.ingested(); ingested != "ok=1" {
		l.t.Errorf("ingest took records again that it had settled: %s, want ok=1", ingested)
	}
}

// crashSide is the check of one ledger.
type crashSide struct {
	name   string
	report testkit.Report
}

// reports compares each ledger with what is there.
func (l *crashLoad) reports() []crashSide {
	l.t.Helper()
	deliveries, letters := l.received()
	flights := l.readAll("flights")
	return []crashSide{
		{"flights", testkit.CheckStored(l.attempts(l.flights), flights, letters, flightShape())},
		{"index", testkit.CheckIndexed(flights, l.readEntries(), l.entryOf)},
		{"messages", testkit.CheckDelivered(l.attempts(l.messages), deliveries)},
		{"table", testkit.CheckStored(l.attempts(l.table), l.readAll(crashTable), nil, rowShape())},
	}
}

// readEntries reads the index by destination but for its mark.
func (l *crashLoad) readEntries() []testkit.Row {
	l.t.Helper()
	ds, ix := l.ds, l.ds.Index("by_destination")
	rows := l.readAll(ds.IndexTable(ix))
	return slices.DeleteFunc(rows, func(row testkit.Row) bool {
		if row.Key != dataset.IndexMark {
			return false
		}
		if len(row.Cells) != 1 || row.Cells[0].Value != ds.Signature(ix) {
			l.t.Errorf("index %s has the mark %v, want %q", ix.Name, row.Cells, ds.Signature(ix))
		}
		return true
	})
}

// entryOf returns the key of a flight's entry in the index by destination.
func (l *crashLoad) entryOf(row testkit.Row) string {
	l.t.Helper()
	ds := l.ds
	stored := dataset.Row{Key: row.Key}
	for _, c := range row.Cells {
		stored.Cells = append(stored.Cells, dataset.Cell{Column: strings.TrimPrefix(c.Column, dataset.Family+":"), Value: []byte(c.Value)})
	}
	rec, err := ds.Record(stored)
	if err != nil {
		l.t.Error(err)
	}
	return ds.IndexKey(ds.Index("by_destination"), rec)
}

func (l *crashLoad) attempts(ledger *testkit.Ledger) []testkit.Attempt {
	l.t.Helper()
	attempts, err := testkit.ReadLedger(ledger.Path())
	if err != nil {
		l.t.Fatal(err)
	}
	return attempts
}

// check compares everything and returns the sum.
func (l *crashLoad) check(t *testing.T) testkit.Report {
	t.Helper()
	total := testkit.Report{}
	for _, side := range l.reports() {
		t.Logf("%s: %s", side.name, side.report)
		if !side.report.OK() {
			t.Errorf("%s:\n%s", side.name, strings.Join(side.report.Violations, "\n"))
		}
		if side.name == "index" {
			continue // Its load is that of the flights.
		}
		// A load that never got through would prove nothing.
		if least := 5 * l.stack.kills; side.report.Acked < least {
			t.Errorf("%s: only %d attempts were acknowledged around %d kills, want %d", side.name, side.report.Acked, l.stack.kills, least)
		}
		total = total.Plus(side.report)
	}
	if total.Acked == total.Published {
		t.Error("every attempt was answered: no kill met one under way")
	}
	l.checkServed(t)
	return total
}

// checkServed compares what the API serves with the ledger.
func (l *crashLoad) checkServed(t *testing.T) {
	t.Helper()
	r, err := l.stack.address(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	served := walk(t, r.API, "flights", url.Values{})
	wrong := 0
	for _, a := range l.attempts(l.flights) {
		if a.Reason != "" {
			continue
		}
		row, found := served[a.Key]
		if !found && !a.Acked {
			continue
		}
		if diff := difference(decodeRecord(a.Payload), row); diff != "" {
			if wrong++; wrong <= 5 {
				t.Errorf("the API serves another row than attempt %d:\n%s", a.N, diff)
			}
		}
	}
	if rows := len(l.readAll("flights")); len(served) != rows {
		t.Errorf("the API serves %d rows of %d", len(served), rows)
	}
}

// showEverything takes the rule off a table that hides all but the newest version of a cell from every
// read. The tests are shorter than the pause before the engine's first collection.
func (l *crashLoad) showEverything(ctx context.Context, table string) {
	l.t.Helper()
	admin, err := bigtable.NewAdminClient(ctx, crashProject, crashInstance, l.stack.dial(func(r ready) string { return r.Bigtable }))
	if err != nil {
		l.t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.SetGCPolicy(ctx, table, dataset.Family, bigtable.NoGcPolicy()); err != nil {
		l.t.Fatalf("take the rule off table %s: %v", table, err)
	}
}

// readAll reads a table through Google's client, with every version of every cell.
func (l *crashLoad) readAll(table string) []testkit.Row {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), crashSettle)
	defer cancel()
	client, err := bigtable.NewClientWithConfig(ctx, crashProject, crashInstance, bigtable.ClientConfig{
		MetricsProvider: bigtable.NoopMetricsProvider{}, DisableDirectAccess: true, DisableSession: true,
	}, l.stack.dial(func(r ready) string { return r.Bigtable }))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	l.showEverything(ctx, table)
	var rows []testkit.Row
	err = client.Open(table).ReadRows(ctx, bigtable.InfiniteRange(""), func(raw bigtable.Row) bool {
		row := testkit.Row{Key: raw.Key()}
		for _, items := range raw {
			for _, item := range items {
				row.Cells = append(row.Cells, testkit.Cell{Column: item.Column, Time: item.Timestamp.Time(), Value: string(item.Value)})
			}
		}
		rows = append(rows, row)
		return true
	})
	if err != nil {
		l.t.Fatalf("read table %s: %v", table, err)
	}
	return rows
}
