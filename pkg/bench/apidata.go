package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// APIDeclaration declares the dataset that the benchmark of the API fills and reads.
const APIDeclaration = `version: 1
name: bench
datasets:
  bench-flights:
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$"}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
    key: [origin, departed_at, destination]
    time: departed_at
`

// The scenarios of the benchmark, in the order to run them.
const (
	ScenarioGet    = "get"
	ScenarioPage   = "page"
	ScenarioFilter = "list-filter"
)

// APIScenario is a set of requests to choose from at random.
type APIScenario struct {
	Name     string
	Requests []APIRequest
}

// APIRequest is one GET.
type APIRequest struct {
	// Target is the path with its query, as it stands in the request line.
	Target string
	// Key is the row of a get; Start and End bound the rows of a page. They say what a handler without
	// the API has to read, and are empty where that is not known.
	Key, Start, End string
}

// preparedRequests is how many requests a scenario has at most; they take some memory each.
const preparedRequests = 20_000

// apiData makes the rows of the benchmark and the requests for them.
type apiData struct {
	ds      *dataset.Dataset
	rows    int
	origins int
}

func newAPIData(rows int) (*apiData, error) {
	decl, err := dataset.Load("bench.yaml", []byte(APIDeclaration))
	if err != nil {
		return nil, fmt.Errorf("read the benchmark's declaration: %w", err)
	}
	return &apiData{ds: decl.Datasets[0], rows: rows, origins: min(max(rows/1000, 1), 100)}, nil
}

func code(i int) string { return string([]byte{'A' + byte(i/26%26), 'A' + byte(i%26), 'X'}) }

func (d *apiData) minute(n int) string {
	return time.Date(2001, 1, 1, 0, n, 0, 0, time.UTC).Format(time.RFC3339)
}

func (d *apiData) row(i int) (dataset.Row, error) {
	text := fmt.Sprintf(`{"origin":%q,"departed_at":%q,"destination":%q,"delay_minutes":%d,"distance_miles":%d}`,
		code(i%d.origins), d.minute(i/d.origins), code(i*31%676), i*7919%240-30, 100+i*37%3000)
	rec, err := d.ds.Decode([]byte(text), time.Time{})
	if err != nil {
		return dataset.Row{}, fmt.Errorf("make row %d: %w", i, err)
	}
	return rec.Row(time.Time{}), nil
}

// fill writes the rows in full batches, a few at a time.
func (d *apiData) fill(ctx context.Context, sink Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var writers sync.WaitGroup
	for range fillWriters {
		writers.Go(func() {
			for ctx.Err() == nil {
				from := int(next.Add(maxBatchRows)) - maxBatchRows
				if from >= d.rows {
					return
				}
				if err := d.write(ctx, sink, from, min(from+maxBatchRows, d.rows)); err != nil {
					cancel(err)
				}
			}
		})
	}
	writers.Wait()
	return context.Cause(ctx)
}

func (d *apiData) write(ctx context.Context, sink Sink, from, to int) error {
	rows := make([]dataset.Row, 0, to-from)
	for i := from; i < to; i++ {
		row, err := d.row(i)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return putAll(ctx, sink, d.ds.Table(), rows)
}

func (d *apiData) path() string { return "/v1/datasets/" + url.PathEscape(d.ds.Name) + "/rows" }

// scenarios prepares requests for rows all over the table.
func (d *apiData) scenarios() ([]APIScenario, error) {
	random := rand.New(rand.NewPCG(2, 3))
	get, page, filter := APIScenario{Name: ScenarioGet}, APIScenario{Name: ScenarioPage}, APIScenario{Name: ScenarioFilter}
	for range min(d.rows, preparedRequests) {
		row, err := d.row(random.IntN(d.rows))
		if err != nil {
			return nil, err
		}
		id, err := d.ds.RowID(row.Key)
		if err != nil {
			return nil, err
		}
		get.Requests = append(get.Requests, APIRequest{Target: d.path() + "/" + id, Key: row.Key})
		r, err := d.page(random)
		if err != nil {
			return nil, err
		}
		page.Requests = append(page.Requests, r)
		r.Target = strings.Replace(r.Target, "&limit="+strconv.Itoa(pageRows), "&delay_minutes%5Bgte%5D=60&limit=20", 1)
		filter.Requests = append(filter.Requests, APIRequest{Target: r.Target})
	}
	return []APIScenario{get, page, filter}, nil
}

// page asks for rows of one origin from a time on which at least a page follows, where there are as many.
func (d *apiData) page(random *rand.Rand) (APIRequest, error) {
	origin := code(random.IntN(d.origins))
	from := d.minute(random.IntN(max(d.rows/d.origins-pageRows, 1)))
	var values []dataset.Value
	for i, text := range []string{origin, from} {
		v, err := dataset.ParseText(d.ds.Key[i], text)
		if err != nil {
			return APIRequest{}, fmt.Errorf("make a page: %w", err)
		}
		values = append(values, v)
	}
	return APIRequest{
		Target: fmt.Sprintf("%s?origin=%s&from=%s&limit=%d", d.path(), origin, from, pageRows),
		Start:  d.ds.KeyPrefix(values), End: dataset.PrefixEnd(d.ds.KeyPrefix(values[:1])),
	}, nil
}

// SampleAPI asks a running API for rows of a dataset, at most as many as given, and prepares requests
// for those: gets of their ids, pages from the cursors on the way, and lists filtered by the first
// field of the key. The base is the path before /v1.
func SampleAPI(ctx context.Context, addr, base, header string, ds *dataset.Dataset, rows int) ([]APIScenario, error) {
	c := &httpConn{addr: addr, timeout: requestTimeout, keep: true}
	defer c.close()
	path := base + "/v1/datasets/" + url.PathEscape(ds.Name) + "/rows"
	get, page, filter := APIScenario{Name: ScenarioGet}, APIScenario{Name: ScenarioPage}, APIScenario{Name: ScenarioFilter}
	limit := "limit=" + strconv.Itoa(pageRows)
	seen := map[string]bool{}
	for target := path + "?" + limit; len(get.Requests) < min(rows, preparedRequests); {
		if err := c.do(ctx, rawRequest(addr, header, target)); err != nil {
			return nil, fmt.Errorf("list rows of %s to choose from: %w: %s", ds.Name, err, c.body[:min(len(c.body), 400)])
		}
		var body struct {
			Data   []map[string]any `json:"data"`
			Cursor string           `json:"next_cursor"`
		}
		if err := json.Unmarshal(c.body, &body); err != nil {
			return nil, fmt.Errorf("read a page of %s: %w", ds.Name, err)
		}
		page.Requests = append(page.Requests, APIRequest{Target: target})
		for _, row := range body.Data {
			id, _ := row["id"].(string)
			get.Requests = append(get.Requests, APIRequest{Target: path + "/" + url.PathEscape(id)})
			first := ds.Key[0].Name
			t := fmt.Sprintf("%s?%s=%s&%s", path, first, url.QueryEscape(fmt.Sprint(row[first])), limit)
			if !seen[t] {
				seen[t] = true
				filter.Requests = append(filter.Requests, APIRequest{Target: t})
			}
		}
		if body.Cursor == "" {
			break
		}
		target = path + "?" + limit + "&cursor=" + url.QueryEscape(body.Cursor)
	}
	if len(get.Requests) == 0 {
		return nil, fmt.Errorf("dataset %s has no rows to read", ds.Name)
	}
	return []APIScenario{get, page, filter}, nil
}

// rawRequest is a request as it goes over the wire. The header is whole lines, or empty.
func rawRequest(host, header, target string) []byte {
	return []byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + header + "\r\n")
}
