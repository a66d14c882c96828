package cli_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/examples"
)

// flights are published records: the file to publish, and the last record of each key by row id.
type flights struct {
	file  string
	total int
	last  map[string]map[string]any
}

// loadFlights takes the first records of the large real file where it is at hand, else the built-in sample.
func loadFlights(t *testing.T, most int) flights {
	t.Helper()
	f := flights{last: map[string]map[string]any{}}
	data := examples.Flights
	if path, ok := shared("flights-20k.ndjson.gz"); ok {
		data = gunzip(t, path)
	}
	if lines := bytes.SplitAfterN(data, []byte("\n"), most+1); len(lines) > most {
		data = bytes.Join(lines[:most], nil)
	}
	f.file = filepath.Join(t.TempDir(), "flights.ndjson")
	if err := os.WriteFile(f.file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for scanner := bufio.NewScanner(bytes.NewReader(data)); scanner.Scan(); f.total++ {
		var row map[string]any
		dec := json.NewDecoder(bytes.NewReader(scanner.Bytes()))
		dec.UseNumber()
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
		f.last[fmt.Sprintf("%s,%s,%s", row["origin"], row["departed_at"], row["destination"])] = row
	}
	return f
}

func gunzip(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// byOrigin walks the dataset one airport at a time.
func (f flights) byOrigin(t *testing.T, api string) map[string]map[string]any {
	t.Helper()
	var origins []string
	for id := range f.last {
		origin, _, _ := strings.Cut(id, ",")
		origins = append(origins, origin)
	}
	slices.Sort(origins)
	rows := map[string]map[string]any{}
	for _, origin := range slices.Compact(origins) {
		for id, row := range walk(t, api, "flights", url.Values{"origin": {origin}}) {
			rows[id] = row
		}
	}
	return rows
}

// difference is cmp.Diff for many rows, which takes long to find that they are the same.
func difference(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

func TestPublishedFlightsAreServed(t *testing.T) {
	t.Parallel()
	f := loadFlights(t, allFlights)
	dir := t.TempDir()
	up, r := startUp(t, dir, "--no-sample")
	if out := run(t, dir, nil, "publish", "flights", "-f", f.file); !strings.HasPrefix(out, fmt.Sprintf("published %d records to flights", f.total)) {
		t.Errorf("publish said %q", out)
	}
	settled(t, r.Admin, "ok", f.total)
	if diff := difference(f.last, f.byOrigin(t, r.API)); diff != "" {
		t.Errorf("rows differ from the last records published:\n%s", tail(diff))
	}
	if rows := walk(t, r.API, "flights", url.Values{"index": {"by_destination"}}); len(rows) != len(f.last) {
		t.Errorf("the index shows %d rows of %d", len(rows), len(f.last))
	}
	var before struct {
		NextURL string `json:"next_url"`
	}
	getJSON(t, r.API+"/v1/datasets/flights/rows?limit=1", &before)
	up.terminate()

	// What was stored is served again after a restart, and a walk that had begun goes on.
	_, r = startUp(t, dir, "--no-sample")
	var after struct{ Data []map[string]any }
	getJSON(t, r.API+before.NextURL, &after)
	if len(after.Data) != 1 {
		t.Errorf("the walk went on with %d rows", len(after.Data))
	}
	if diff := difference(f.last, f.byOrigin(t, r.API)); diff != "" {
		t.Errorf("rows differ after a restart:\n%s", tail(diff))
	}
}

const weatherDeclaration = `
version: 1
name: latam
datasets:
  weather:
    description: Hourly observations at the airports of New York
    fields:
      origin:     {type: string, required: true}
      year:       int64
      month:      int64
      day:        int64
      hour:       int64
      temp:       float64
      dewp:       float64
      humid:      float64
      wind_dir:   int64
      wind_speed: float64
      wind_gust:  float64
      precip:     float64
      pressure:   float64
      visib:      float64
      time_hour:  {type: timestamp, required: true}
    key: [origin, time_hour]
    time: time_hour
`

func TestSecondDatasetNeedsOnlyADeclaration(t *testing.T) {
	t.Parallel()
	if raceDetector {
		t.Skip("the flights take the same way through the program, with the race detector too")
	}
	path, ok := shared("weather-nyc-2013.csv.gz")
	if !ok {
		t.Skip("the weather data is not beside this checkout")
	}
	want := readWeather(t, path)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(weatherDeclaration), 0o644); err != nil {
		t.Fatal(err)
	}
	_, r := startUp(t, dir, "--engine", "memory")
	out := run(t, dir, nil, "publish", "weather", "-f", path)
	if !strings.HasPrefix(out, "published 26115 records to weather") {
		t.Errorf("publish said %q", out)
	}
	settled(t, r.Admin, "ok", 26115)
	got := walk(t, r.API, "weather", url.Values{})
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for id, row := range got {
		if diff := cmp.Diff(want[id], row, cmp.Comparer(sameNumber)); diff != "" {
			t.Fatalf("row %s differs:\n%s", id, diff)
		}
	}
}

// sameNumber compares by value: the file writes 1e3 where the API writes 1000.
func sameNumber(a, b json.Number) bool {
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && x == y
}

// readWeather reads the file as anyone would: NA is missing, text stays text, numbers are numbers.
func readWeather(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	records, err := csv.NewReader(bytes.NewReader(gunzip(t, path))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]map[string]any{}
	for _, record := range records[1:] {
		row := map[string]any{}
		for i, name := range records[0] {
			switch {
			case record[i] == "NA":
			case name == "origin" || name == "time_hour":
				row[name] = record[i]
			default:
				row[name] = json.Number(record[i])
			}
		}
		rows[fmt.Sprintf("%s,%s", row["origin"], row["time_hour"])] = row
	}
	return rows
}

// badRecords break the flights declaration, each in its own way.
var badRecords = []struct{ record, reason, field string }{
	{`{"origin":"BAD"`, "bad_json", ""},
	{`[1,2]`, "bad_json", ""},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":"BAE","gate":7}`, "unknown_field", "gate"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z"}`, "missing_field", "destination"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":null}`, "missing_field", "destination"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":7}`, "wrong_type", "destination"},
	{`{"origin":"BAD","departed_at":"yesterday","destination":"BAE"}`, "wrong_type", "departed_at"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":"BAE","delay_minutes":"12"}`, "wrong_type", "delay_minutes"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":"BAE","delay_minutes":1.5}`, "wrong_type", "delay_minutes"},
	{`{"origin":"bad","departed_at":"2001-01-01T00:00:00Z","destination":"BAE"}`, "pattern", "origin"},
	{`{"origin":"BAD","departed_at":"2001-01-01T00:00:00Z","destination":"BAE","distance_miles":-1}`, "range", "distance_miles"},
	{`{"origin":"BAD","departed_at":"1901-01-01T00:00:00Z","destination":"BAE"}`, "range", "departed_at"},
	{`{"origin":"BAD","origin":"BAF","departed_at":"2001-01-01T00:00:00Z","destination":"BAE"}`, "duplicate_field", "origin"},
}

func TestBadRecordsReachTheDeadLetterTopicWithTheirReason(t *testing.T) {
	t.Parallel()
	const good, bad = 1000, 20
	var file bytes.Buffer
	want := map[string]int{}
	sample := bytes.SplitAfter(examples.Flights, []byte("\n"))
	for i := range good {
		file.Write(sample[i])
		if i%(good/bad) == 0 {
			b := badRecords[i/(good/bad)%len(badRecords)]
			file.WriteString(b.record + "\n")
			want[b.reason+" "+b.field]++
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mixed.ndjson")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	_, r := startUp(t, dir, "--engine", "memory", "--no-sample")
	run(t, dir, nil, "publish", "flights", "-f", path)
	settled(t, r.Admin, "ok", good)
	settled(t, r.Admin, "rejected", bad)
	if rows := walk(t, r.API, "flights", url.Values{}); len(rows) != good {
		t.Errorf("%d rows, want %d", len(rows), good)
	}
	got := map[string]int{}
	for _, m := range deadLetters(t, r, "flights-dead-inspect", bad) {
		got[m.Attributes["latam.reason"]+" "+m.Attributes["latam.field"]]++
		if m.Attributes["latam.stage"] != "decode" || m.Attributes["latam.dataset"] != "flights" || m.Attributes["latam.message_id"] == "" || m.Attributes["latam.error"] == "" {
			t.Errorf("dead letter without its provenance: %v", m.Attributes)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons of the dead letters:\n%s", diff)
	}
}

func TestTerminatedUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	f := loadFlights(t, allFlights)
	dir := t.TempDir()
	up, _ := startUp(t, dir, "--no-sample")
	run(t, dir, nil, "publish", "flights", "-f", f.file)
	up.terminate() // Most of the records are still on their way.
	_, r := startUp(t, dir, "--no-sample")
	eventually(t, waitLimit, func() (bool, string) {
		rows := walk(t, r.API, "flights", url.Values{})
		return len(rows) == len(f.last), fmt.Sprintf("%d of %d rows", len(rows), len(f.last))
	})
}
