package dataset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

const csvYAML = `version: 1
name: latam
datasets:
  all:
    fields:
      s: {type: string, required: true}
      i: int64
      f: float64
      b: bool
      t: timestamp
      y: bytes
      j: json
    key: [s]
`

// readCSV reads all records; errors of single rows stand among them.
func readCSV(t *testing.T, ds *Dataset, text string, opts CSVOptions) (lines []string, err error) {
	t.Helper()
	r, err := NewCSVReader(ds, strings.NewReader(text), opts)
	if err != nil {
		return nil, err
	}
	for range 100 {
		record, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			lines = append(lines, "ERROR "+err.Error())
		default:
			lines = append(lines, string(record))
		}
	}
	t.Fatal("the reader does not end")
	return nil, nil
}

func TestCSV(t *testing.T) {
	t.Parallel()
	ds := load(t, csvYAML).Datasets[0]
	const head = "s,i,f,b,t,y,j\n"
	for _, c := range []struct {
		name, in string
		opts     CSVOptions
		want     string
	}{
		{"all types", head + `a,1,-2.5e3,true,2001-01-01T00:00:00Z,AP8=,"{""a"": [1]}"`, CSVOptions{},
			`{"s":"a","i":1,"f":-2.5e3,"b":true,"t":"2001-01-01T00:00:00Z","y":"AP8=","j":{"a": [1]}}`},
		{"not of the type", head + `5,x,1e,TRUE,1,é,"{"`, CSVOptions{}, `{"s":"5","i":"x","f":"1e","b":"TRUE","t":"1","y":"é","j":"{"}`},
		{"leading zeros and spaces", head + "007,007, 1,true ,,,", CSVOptions{}, `{"s":"007","i":"007","f":" 1","b":"true "}`},
		{"empty cells", head + ",,,,,,", CSVOptions{}, `{}`},
		{"NA", head + "NA,NA,NA,NA,NA,NA,NA", CSVOptions{}, `{"s":"NA"}`},
		{"null tokens", head + "-,-,\\N,true,,,", CSVOptions{Null: []string{"-", "\\N"}}, `{"b":true}`},
		{"quotes and lines", "i,s\n1,\"a \"\"b\"\"\n,c\"\n2,d", CSVOptions{}, `{"i":1,"s":"a \"b\"\n,c"}|{"i":2,"s":"d"}`},
		{"byte order mark and CRLF", "\uFEFFs,i\r\na,1\r\n", CSVOptions{}, `{"s":"a","i":1}`},
		{"no rows", head, CSVOptions{}, ``},
		{"unknown columns ignored", "x,s,,i\n9,a,9,1\n", CSVOptions{IgnoreUnknown: true}, `{"s":"a","i":1}`},
		{"id is passed on", "id,s\na,a\n", CSVOptions{}, `{"id":"a","s":"a"}`},
		{"not UTF-8", "s\n\xff\n", CSVOptions{}, "{\"s\":\"\xff\"}"},
		{"wrong number of columns", "s,i\na,1\nb\nc,2,3\nd,4\n", CSVOptions{},
			`{"s":"a","i":1}|ERROR read CSV line 3: expected 2 columns, got 1|ERROR read CSV line 4: expected 2 columns, got 3|{"s":"d","i":4}`},
		{"bare quote", "s,i\na,1\nb\"c,2\n", CSVOptions{}, `{"s":"a","i":1}|ERROR read CSV: parse error on line 3, column 2: bare " in non-quoted-field`},
	} {
		got, err := readCSV(t, ds, c.in, c.opts)
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, strings.Join(got, "|"), c.want)
		}
	}
}

func TestCSVHeader(t *testing.T) {
	t.Parallel()
	ds := load(t, strings.Replace(csvYAML, "f: float64", "distance: float64", 1)).Datasets[0]
	for in, want := range map[string]string{
		"":                    "read the CSV header: the file is empty",
		"s,distanc,banana,\n": `read the CSV header: the dataset all declares no column "distanc" (did you mean distance?), "banana", ""`,
		"s,i,s\n":             "read the CSV header: column s stands twice",
		"i\n":                 "read the CSV header: the required column s is absent",
		"i,i,x\n":             `read the CSV header: column i stands twice; the dataset all declares no column "x"; the required column s is absent`,
		"s,\"i\n":             `read the CSV header: parse error on line 1, column 6: extraneous or missing " in quoted-field`,
		"id,s,id\n":           "read the CSV header: column id stands twice",
	} {
		if _, err := NewCSVReader(ds, strings.NewReader(in), CSVOptions{}); err == nil || err.Error() != want {
			t.Errorf("%q: got %v\nwant %s", in, err, want)
		}
	}
	broken := errors.New("broken")
	if _, err := NewCSVReader(ds, io.MultiReader(strings.NewReader("s,i"), errReader{broken}), CSVOptions{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// testData opens a data file that need not be there.
func testData(t *testing.T, name string) io.Reader {
	t.Helper()
	data, err := os.ReadFile("../../../shared/data/" + name)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("%s is not here", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

const weatherYAML = `version: 1
name: latam
datasets:
  weather:
    fields:
      origin: {type: string, required: true}
      year: int64
      month: int64
      day: int64
      hour: int64
      temp: float64
      dewp: float64
      humid: float64
      wind_dir: int64
      wind_speed: float64
      wind_gust: float64
      precip: float64
      pressure: float64
      visib: float64
      time_hour: {type: timestamp, required: true}
    key: [origin, time_hour]
    time: time_hour
`

func TestWeatherCSV(t *testing.T) {
	t.Parallel()
	ds := load(t, weatherYAML).Datasets[0]
	r, err := NewCSVReader(ds, testData(t, "weather-nyc-2013.csv.gz"), CSVOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows, gusts := 0, 0
	for {
		data, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		record, err := ds.Decode(data, testNow)
		if err != nil {
			t.Fatalf("row %d: %v", rows+1, err)
		}
		checkCells(t, record)
		checkJSON(t, record, "")
		rows++
		if !record.Value(ds.Field("wind_gust")).IsMissing() {
			gusts++
		}
	}
	if rows != 26115 || gusts == 0 || gusts == rows {
		t.Errorf("%d rows, %d with a gust", rows, gusts)
	}
}

func TestFlights(t *testing.T) {
	t.Parallel()
	data, err := io.ReadAll(testData(t, "flights-20k.ndjson.gz"))
	if err != nil {
		t.Fatal(err)
	}
	ds := load(t, strings.Replace(exampleYAML, "retention: 400d", "", 1)).Dataset("flights")
	keys := map[string]bool{}
	records := 0
	for line := range bytes.Lines(data) {
		r, err := ds.Decode(line, time.Time{})
		if err != nil {
			t.Fatalf("record %d: %v", records+1, err)
		}
		records++
		keys[r.RowKey()] = true
		checkCells(t, r)
		id, err := ds.RowID(r.RowKey())
		if err != nil {
			t.Fatal(err)
		}
		checkJSON(t, r, id)
		if key, err := ds.ParseRowID(id); err != nil || key != r.RowKey() {
			t.Fatalf("ParseRowID(%s) = %q, %v", id, key, err)
		}
		// What was sent is what is served, byte for byte.
		if text, err := r.AppendJSON(nil, "", nil); err != nil || string(text) != strings.TrimSpace(string(line)) {
			t.Fatalf("JSON %s, %v, want %s", text, err, line)
		}
	}
	if records != 20_000 || len(keys) != 19_998 {
		t.Errorf("%d records, %d keys", records, len(keys))
	}
}

func FuzzCSV(f *testing.F) {
	ds := load(f, csvYAML).Datasets[0]
	f.Add("s,i,f,b,t,y,j\na,1,2.5,true,2001-01-01T00:00:00Z,AP8=,[]\n")
	f.Add("s\n\"a\n\xff\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := NewCSVReader(ds, strings.NewReader(text), CSVOptions{IgnoreUnknown: true})
		if err != nil {
			return
		}
		for range len(text) + 2 {
			data, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && !isObject(bytes.ToValidUTF8(data, []byte("?"))) {
				t.Fatalf("the record %q is no JSON object", data)
			}
		}
		t.Fatal("the reader does not end")
	})
}
