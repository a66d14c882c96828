package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// aggregateAnswer is what the tests look at of an aggregate.
type aggregateAnswer struct {
	Data []map[string]any `json:"data"`
	Meta struct {
		Source   string `json:"source"`
		Complete bool   `json:"complete"`
		Scanned  int    `json:"rows_scanned"`
	} `json:"meta"`
}

// TestAggregatesOfPublishedFlights compares the service's answer with the published records.
func TestAggregatesOfPublishedFlights(t *testing.T) {
	t.Parallel()
	f := loadFlights(t, allFlights)
	dir := t.TempDir()
	_, r := startUp(t, dir, "--no-sample")
	run(t, dir, nil, "publish", "flights", "-f", f.file)
	settled(t, r.Admin, "ok", f.total)
	rows, sums := map[string]int{}, map[string]int64{}
	for id, row := range f.last {
		origin, _, _ := strings.Cut(id, ",")
		n, _ := row["delay_minutes"].(json.Number).Int64()
		rows[origin], sums[origin] = rows[origin]+1, sums[origin]+n
	}
	var got aggregateAnswer
	getJSON(t, r.API+"/v1/datasets/flights/aggregate?group_by=origin&metric=count,sum:delay_minutes", &got)
	if got.Meta.Source != "rows" || !got.Meta.Complete || got.Meta.Scanned != len(f.last) || len(got.Data) != len(rows) {
		t.Fatalf("%+v with %d groups", got.Meta, len(got.Data))
	}
	for _, group := range got.Data {
		origin, _ := group["origin"].(string)
		if fmt.Sprintf("%v %v", group["count"], group["sum:delay_minutes"]) != fmt.Sprintf("%d %d", rows[origin], sums[origin]) {
			t.Errorf("%v, want %d rows and %d minutes", group, rows[origin], sums[origin])
		}
	}
}

const shopDeclaration = `
version: 1
name: my-shop
datasets:
  orders:
    fields:
      order_no: {type: int64, required: true}
      amount: int64
    key: [order_no]
    api: {aggregate: bigquery}
`

// TestServeAsksBigQuery runs serve beside a stand-in for BigQuery, on the engines of a running up.
func TestServeAsksBigQuery(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked, path string
	bigQuery := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		asked, path = string(body), r.URL.Path
		mu.Unlock()
		_, _ = io.WriteString(w, `{"jobReference":{"projectId":"latam-local","jobId":"j"},"jobComplete":true,"totalBytesProcessed":"7","rows":[{"f":[{"v":"2"},{"v":"9007199254740993"}]}]}`)
	}))
	t.Cleanup(bigQuery.Close)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(shopDeclaration), 0o644); err != nil {
		t.Fatal(err)
	}
	_, r := startUp(t, dir)
	var local aggregateAnswer
	if getJSON(t, r.API+"/v1/datasets/orders/aggregate", &local); local.Meta.Source != "rows" {
		t.Errorf("up computes aggregates itself: %+v", local)
	}
	api, admin := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	start(t, dir, []string{"PUBSUB_EMULATOR_HOST=" + r.Pubsub, "BIGTABLE_EMULATOR_HOST=" + r.Bigtable, "LATAM_BIGQUERY_ENDPOINT=" + bigQuery.URL},
		"serve", "--http", api, "--admin", admin)
	awaitReady(t, "http://"+admin)
	var got aggregateAnswer
	getJSON(t, "http://"+api+"/v1/datasets/orders/aggregate?metric=count,sum:amount&order_no[gt]=1", &got)
	if got.Meta.Source != "bigquery" || fmt.Sprint(got.Data) != "[map[count:2 sum:amount:9007199254740993]]" {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if path != "/bigquery/v2/projects/latam-local/queries" || !strings.Contains(asked, "FROM `latam-local`.`my_shop`.`orders_latest`") {
		t.Errorf("%s was asked %s", path, asked)
	}
}
