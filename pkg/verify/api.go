package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify/contract"
)

const maxAnswerBytes = 64 << 20

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request with the client's credentials and reads the whole answer.
func (r *runner) ask(ctx context.Context, client *http.Client, method, path string, body []byte, headers ...string) (answer, error) {
	resp, err := r.open(ctx, client, method, path, body, headers...)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes)); err != nil {
		return a, fmt.Errorf("answer cut: %w", err)
	}
	return a, nil
}

func (r *runner) open(ctx context.Context, client *http.Client, method, path string, body []byte, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.opts.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	return resp, nil
}

func (r *runner) get(ctx context.Context, path string, headers ...string) (answer, error) {
	return r.ask(ctx, r.deps.HTTP, http.MethodGet, path, nil, headers...)
}

func datasetPath(ds *dataset.Dataset) string { return "/v1/datasets/" + url.PathEscape(ds.Name) }

func rowPath(ds *dataset.Dataset, id string) string {
	return datasetPath(ds) + "/rows/" + url.PathEscape(id)
}

// health asks the API's own health check.
func (r *runner) health(ctx context.Context, _ *dataset.Dataset, res *Result) {
	res.Next = "is the API running? look at its log, and at /readyz of its admin address"
	a, err := r.get(ctx, "/healthz")
	switch {
	case err != nil:
		res.fail(err.Error())
		return
	case a.status != http.StatusOK:
		res.fail(fmt.Sprintf("it answered %d", a.status))
		return
	}
	res.pass("it answered 200")
	if r.behindGateway(ctx) {
		res.pass("it answered 200, behind an API gateway")
	}
}

// behindGateway tells whether Google's API Gateway stands before the API: it answers itself for paths
// that it does not know.
func (r *runner) behindGateway(ctx context.Context) bool {
	if r.gateway != nil {
		return *r.gateway
	}
	var refusal struct {
		Code    any    `json:"code"`
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	a, err := r.get(ctx, "/latamctl-verify")
	if err != nil {
		return false
	}
	is := json.Unmarshal(a.body, &refusal) == nil && refusal.Code != nil && refusal.Message != "" && refusal.Type == ""
	r.gateway = &is
	return is
}

// contract reads the document that the API serves.
func (r *runner) contract(ctx context.Context, _ *dataset.Dataset, res *Result) {
	res.Next = "latamctl openapi prints what it should be"
	if r.document(ctx, res) {
		res.pass(fmt.Sprintf("it has %d operations", len(r.doc.Operations)))
	}
}

// document reads the contract, once; when that goes wrong it says so in the result.
func (r *runner) document(ctx context.Context, res *Result) bool {
	if r.doc != nil {
		return true
	}
	a, err := r.get(ctx, "/openapi.json")
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("it answered %d", a.status)
	}
	if err == nil {
		r.doc, err = contract.Parse(a.body)
	}
	if err != nil {
		res.fail("GET /openapi.json: " + err.Error())
	}
	return err == nil
}

// knownRow is a row of a dataset for requests that need one.
type knownRow struct {
	id     string
	fields map[string]any
}

// rows reads a page of the dataset.
func (r *runner) rows(ctx context.Context, ds *dataset.Dataset, res *Result) {
	path := datasetPath(ds) + "/rows?limit=1"
	res.Expected = "GET " + path + " answers 200"
	res.Next = "does the API run with this declaration, and does table " + ds.Table() + " exist?"
	a, err := r.get(ctx, path)
	switch {
	case err != nil:
		res.fail(err.Error())
	case (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden) && asks(ds):
		res.skip(fmt.Sprintf("it answered %d: the dataset asks for credentials; set LATAM_API_KEY or LATAM_BEARER_TOKEN", a.status))
	case a.status != http.StatusOK:
		res.fail(fmt.Sprintf("it answered %d", a.status))
	default:
		res.pass("it answered 200")
	}
}

// asks tells whether a dataset asks its callers for credentials.
func asks(ds *dataset.Dataset) bool { return ds.API.Auth != "" && ds.API.Auth != "none" }

// page is an answer of the API's list.
type page struct {
	Data       []map[string]any `json:"data"`
	NextCursor *string          `json:"next_cursor"`
	NextURL    *string          `json:"next_url"`
}

func (p page) ids() []string {
	ids := make([]string, len(p.Data))
	for i, row := range p.Data {
		ids[i], _ = row[dataset.IDMember].(string)
	}
	return ids
}

func (r *runner) page(ctx context.Context, ds *dataset.Dataset, query url.Values) (p page, err error) {
	a, err := r.get(ctx, datasetPath(ds)+"/rows?"+query.Encode())
	switch {
	case err != nil:
		return p, err
	case a.status != http.StatusOK:
		return p, fmt.Errorf("the list answered %d", a.status)
	}
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("the page is not JSON: %w", err)
	}
	return p, nil
}

// known finds a row of the dataset, once; ok is false for an empty one.
func (r *runner) known(ctx context.Context, ds *dataset.Dataset) (row knownRow, ok bool, err error) {
	if row, ok := r.rowOf[ds.Name]; ok {
		return row, true, nil
	}
	p, err := r.page(ctx, ds, url.Values{"limit": {"1"}})
	if err != nil || len(p.Data) == 0 {
		return row, false, err
	}
	row = knownRow{id: p.ids()[0], fields: p.Data[0]}
	r.rowOf[ds.Name] = row
	return row, true, nil
}

const (
	pagedRows = 1000
	pagings   = 4 // pages to walk, at least
	maxPages  = 100
)

// paging walks the first rows in small pages and compares them with one large page. Rows that come or
// go meanwhile are left out of the comparison: two looks, before and after, have to agree on a row.
func (r *runner) paging(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "compare: latamctl get " + ds.Name + " --limit 0; the API's log has the errors of reads"
	whole := url.Values{"limit": {fmt.Sprint(pagedRows)}}
	before, err := r.page(ctx, ds, whole)
	if err != nil {
		res.fail(err.Error())
		return
	}
	size := max(1, (len(before.Data)+pagings-1)/pagings)
	w, err := r.walk(ctx, ds, size, before)
	if err != nil {
		res.fail(err.Error())
		return
	}
	after, err := r.page(ctx, ds, whole)
	if err != nil {
		res.fail(err.Error())
		return
	}
	stays := map[string]bool{}
	for _, id := range after.ids() {
		stays[id] = true
	}
	steady := slices.DeleteFunc(before.ids(), func(id string) bool { return !stays[id] })
	switch fault := sameOrder(steady, w.ids); {
	case fault != "":
		res.fail(fmt.Sprintf("pages of %d: %s", size, fault))
	case before.NextCursor == nil && after.NextCursor == nil && !w.ended && len(after.Data) < size*maxPages:
		res.fail(fmt.Sprintf("pages of %d did not end after %d rows, the page of all %d did", size, len(w.ids), len(before.Data)))
	default:
		res.pass(fmt.Sprintf("%d rows in %d pages of at most %d, as in one", len(w.ids), w.pages, size))
	}
}

// walked is what came in small pages.
type walked struct {
	ids   []string
	pages int
	ended bool
}

// walk follows the cursors until it has all rows of a larger page, and to the end when that page was
// the end.
func (r *runner) walk(ctx context.Context, ds *dataset.Dataset, size int, whole page) (w walked, err error) {
	query, all := url.Values{"limit": {fmt.Sprint(size)}}, whole.ids()
	for w.pages < maxPages {
		p, err := r.page(ctx, ds, query)
		if err != nil {
			return w, fmt.Errorf("page %d of at most %d rows: %w", w.pages+1, size, err)
		}
		w.pages++
		w.ids = append(w.ids, p.ids()...)
		switch {
		case len(p.Data) > size:
			return w, fmt.Errorf("page %d has %d rows, limit was %d", w.pages, len(p.Data), size)
		case p.NextCursor == nil:
			w.ended = true
			return w, nil
		case p.NextURL == nil:
			return w, fmt.Errorf("page %d has a next_cursor and no next_url", w.pages)
		case whole.NextCursor != nil && len(all) > 0 && slices.Contains(p.ids(), all[len(all)-1]):
			return w, nil
		}
		query.Set("cursor", *p.NextCursor)
	}
	return w, nil
}

// sameOrder says how the ids differ from those of the steady rows: one comes twice, is left out, or
// stands elsewhere. There may be others between them.
func sameOrder(steady, ids []string) string {
	at := map[string]int{}
	for i, id := range ids {
		if first, twice := at[id]; twice {
			return fmt.Sprintf("row %s comes twice, as number %d and %d", id, first+1, i+1)
		}
		at[id] = i
	}
	last := -1
	for _, id := range steady {
		i, ok := at[id]
		switch {
		case !ok:
			return "row " + id + " is left out"
		case i < last:
			return "row " + id + " is out of order"
		}
		last = i
	}
	return ""
}

const cachingTries = 3

// caching asks again with the tag of the last answer. A row may change meanwhile, so it tries again.
func (r *runner) caching(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "does a proxy in front of the API change or drop ETag and If-None-Match?"
	path := datasetPath(ds)
	if row, ok, err := r.known(ctx, ds); err == nil && ok {
		path = rowPath(ds, row.id)
	}
	var err error
	for range cachingTries {
		var again bool
		if again, err = r.notModified(ctx, ds, path); !again {
			break
		}
	}
	if err != nil {
		res.fail("GET " + path + ": " + err.Error())
		return
	}
	res.pass("GET " + path + " answered 304 to its own ETag")
}

func (r *runner) notModified(ctx context.Context, ds *dataset.Dataset, path string) (again bool, err error) {
	first, err := r.get(ctx, path)
	if err != nil {
		return false, err
	}
	tag, cache := first.header.Get("ETag"), first.header.Get("Cache-Control")
	switch {
	case first.status != http.StatusOK:
		return true, fmt.Errorf("it answered %d", first.status)
	case tag == "":
		return false, errors.New("it has no ETag")
	}
	if age := ds.API.CacheMaxAge; age >= time.Second && strings.Contains(path, "/rows/") && !strings.Contains(cache, fmt.Sprintf("max-age=%d", age/time.Second)) {
		return false, fmt.Errorf("its Cache-Control is %q, declared is %s", cache, age)
	}
	second, err := r.get(ctx, path, "If-None-Match", tag)
	switch {
	case err != nil:
		return false, err
	case second.status != http.StatusNotModified:
		return true, fmt.Errorf("with If-None-Match: %s it answered %d", tag, second.status)
	case len(second.body) > 0:
		return false, fmt.Errorf("304 came with a body of %d bytes", len(second.body))
	}
	return false, nil
}

// errors asks for what must be refused.
func (r *runner) errors(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "docs/errors.md lists the codes; does a proxy in front of the API replace its answers?"
	c, err := makeCanary(ds, r.deps.Now())
	if err != nil {
		res.fail(err.Error())
		return
	}
	if !r.document(ctx, res) {
		return
	}
	cases := []struct {
		method, path, body string
		status             int
		code               string
	}{
		{http.MethodGet, datasetPath(ds) + "/rows?" + poisonField + "=1", "", http.StatusBadRequest, "UNKNOWN_PARAMETER"},
		{http.MethodGet, rowPath(ds, c.id), "", http.StatusNotFound, "ROW_NOT_FOUND"},
		{http.MethodPost, datasetPath(ds) + "/records", `{"` + poisonField + `":true}`, http.StatusBadRequest, "INVALID_RECORD"},
	}
	if !r.behindGateway(ctx) {
		cases = append(cases, cases[0], cases[0])
		cases[3].path, cases[3].status, cases[3].code = "/v1/datasets/latamctl-verify/rows", http.StatusNotFound, ""
		cases[4].method, cases[4].path, cases[4].status, cases[4].code = http.MethodDelete, datasetPath(ds)+"/rows", http.StatusMethodNotAllowed, ""
	}
	var faults []string
	for _, c := range cases {
		a, err := r.ask(ctx, r.deps.HTTP, c.method, c.path, []byte(c.body), "Content-Type", "application/json")
		switch {
		case err != nil:
		case a.status != c.status:
			err = fmt.Errorf("it answered %d, expected %d", a.status, c.status)
		default:
			err = r.doc.CheckProblem(a.status, c.code, a.header, a.body)
		}
		if err != nil {
			faults = append(faults, c.method+" "+c.path+": "+err.Error())
		}
	}
	if len(faults) > 0 {
		res.fail(some(faults))
		return
	}
	res.pass(fmt.Sprintf("%d bad requests were refused with their codes", len(cases)))
}

const maxFaults = 3

// some joins the first of many texts.
func some(texts []string) string {
	if len(texts) <= maxFaults {
		return strings.Join(texts, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(texts[:maxFaults], "; "), len(texts)-maxFaults)
}
