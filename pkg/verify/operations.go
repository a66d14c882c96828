package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify/contract"
)

// serviceOperations asks for everything in the contract that is about no dataset.
func (r *runner) serviceOperations(ctx context.Context, _ *dataset.Dataset, res *Result) {
	res.Next = "the API and its contract differ: is it one version of latamctl that answers, and nothing else in front?"
	if !r.document(ctx, res) {
		return
	}
	var faults []string
	n := 0
	for _, op := range r.doc.Operations {
		if r.owner(op) != nil || strings.HasPrefix(op.Path, "/v1/datasets/") {
			continue
		}
		n++
		if err := r.call(ctx, op, op.Path, nil); err != nil {
			faults = append(faults, op.Method+" "+op.Path+": "+err.Error())
		}
	}
	conclude(res, n, faults)
}

func conclude(res *Result, n int, faults []string) {
	switch {
	case len(faults) > 0:
		res.fail(fmt.Sprintf("%d of %d: %s", len(faults), n, some(faults)))
	case n == 0:
		res.fail("the contract has no operation of it")
	default:
		res.pass(fmt.Sprintf("%d operations: status, headers and body", n))
	}
}

// owner is the dataset that an operation is about, nil for none of them.
func (r *runner) owner(op *contract.Operation) *dataset.Dataset {
	for _, ds := range r.opts.Datasets {
		if path := datasetPath(ds); op.Path == path || strings.HasPrefix(op.Path, path+"/") {
			return ds
		}
	}
	return nil
}

// operations asks for everything in the contract that is about a dataset, with a row of it where one
// is needed. Records are not published here.
func (r *runner) operations(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "the API and its contract differ: is it one version of latamctl that answers, and nothing else in front?"
	row, ok, err := r.known(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return
	}
	if !r.document(ctx, res) {
		return
	}
	// A gateway passes no stream on, and without its topic there is nothing to follow.
	noStream := r.behindGateway(ctx) || r.outcomes[resultOf(find(HopResources, "topics"), ds).Name()].Status == Fail
	var faults []string
	n := 0
	for _, op := range r.doc.Operations {
		if r.owner(op) != ds || op.Streams() && noStream || strings.HasSuffix(op.Path, "/records") {
			continue
		}
		n++
		if err := r.operation(ctx, ds, op, row, ok); err != nil {
			faults = append(faults, op.Method+" "+op.Path+": "+err.Error())
		}
	}
	conclude(res, n, faults)
}

// operation makes a request that the operation answers with success where there is a row; in an empty
// dataset any answer of the contract is right.
func (r *runner) operation(ctx context.Context, ds *dataset.Dataset, op *contract.Operation, row knownRow, ok bool) error {
	path, query := op.Path, url.Values{}
	id := row.id
	if !ok {
		c, err := makeCanary(ds, r.deps.Now())
		if err != nil {
			return err
		}
		id = c.id
	}
	path = strings.ReplaceAll(path, "{id}", url.PathEscape(id))
	if strings.Contains(path, "{") {
		return errors.New("it has a parameter in its path that verify does not know")
	}
	switch {
	case strings.HasSuffix(op.Path, "/rows"):
		query.Set("limit", "2")
	case strings.HasSuffix(op.Path, "/aggregate") && ok:
		// All metrics of a whole dataset would cost more than the answer is worth.
		first := ds.Key[0].Name
		query.Set(first, fmt.Sprint(row.fields[first]))
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var body []byte
	switch {
	case op.Method == http.MethodPost && strings.HasSuffix(op.Path, "/batch-get"):
		body = fmt.Appendf(nil, `{"ids":[%q]}`, id)
	case op.Method == http.MethodPost:
		if body = op.Example(); body == nil {
			return errors.New("it has no example of its request")
		}
	}
	if !ok {
		return r.callAny(ctx, op, path, body)
	}
	return r.call(ctx, op, path, body)
}

// call asks and expects the success of the operation.
func (r *runner) call(ctx context.Context, op *contract.Operation, path string, body []byte) error {
	a, err := r.exchange(ctx, op, path, body)
	if err == nil && a.status != op.Success() {
		err = fmt.Errorf("it answered %d, expected %d", a.status, op.Success())
	}
	return err
}

func (r *runner) callAny(ctx context.Context, op *contract.Operation, path string, body []byte) error {
	_, err := r.exchange(ctx, op, path, body)
	return err
}

// exchange asks and compares the answer with the contract. Of a stream only the head is read.
func (r *runner) exchange(ctx context.Context, op *contract.Operation, path string, body []byte) (answer, error) {
	if op.Streams() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := r.open(ctx, r.deps.HTTP, op.Method, path, body)
		if err != nil {
			return answer{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		return answer{status: resp.StatusCode, header: resp.Header}, op.CheckHead(resp.StatusCode, resp.Header)
	}
	var headers []string
	if body != nil {
		headers = []string{"Content-Type", "application/json"}
	}
	a, err := r.ask(ctx, r.deps.HTTP, op.Method, path, body, headers...)
	if err != nil {
		return a, err
	}
	if err := op.Check(a.status, a.header, a.body); err != nil {
		return a, fmt.Errorf("it answered %d: %w", a.status, err)
	}
	return a, nil
}

// posted publishes a record over HTTP while it follows the dataset, and finds it in both.
func (r *runner) posted(ctx context.Context, ds *dataset.Dataset, res *Result) {
	path := datasetPath(ds) + "/records"
	res.Expected = "POST " + path + " publishes a record that is then readable, and comes in the tail"
	res.Next = "the API's log; may it publish to topic " + ds.Topic + " and follow it?"
	if !r.removable(ctx, ds, res) || !r.document(ctx, res) {
		return
	}
	op := r.doc.Find(http.MethodPost, path)
	if op == nil {
		res.fail("the contract has no operation to publish")
		return
	}
	c, err := r.newCanary(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*r.opts.Wait)
	defer cancel()
	tail := r.doc.Find(http.MethodGet, datasetPath(ds)+"/tail")
	var events <-chan error
	if tail != nil && !r.behindGateway(ctx) {
		if events, err = r.follow(ctx, tail, c.id); err != nil {
			res.fail("follow the dataset: " + err.Error())
			return
		}
	}
	r.track(c)
	start := r.deps.Now()
	if err := r.call(ctx, op, path, c.data); err != nil {
		res.fail(err.Error())
		return
	}
	took, ok := r.appears(ctx, c, start, res)
	if !ok {
		return
	}
	res.LatencyMilliseconds = milliseconds(took)
	if events == nil {
		res.pass(fmt.Sprintf("readable after %.1f ms; gateways pass no tail on", res.LatencyMilliseconds))
		return
	}
	select {
	case err = <-events:
	case <-ctx.Done():
		err = fmt.Errorf("its row did not come within %s", 2*r.opts.Wait)
	}
	if err != nil {
		res.fail("the tail: " + err.Error())
		return
	}
	res.pass(fmt.Sprintf("readable after %.1f ms, and in the tail", res.LatencyMilliseconds))
}

const maxEventBytes = 16 << 20

// follow opens the tail. What comes on the channel is nil once the row with the id came as described.
func (r *runner) follow(ctx context.Context, op *contract.Operation, id string) (<-chan error, error) {
	resp, err := r.open(ctx, r.deps.HTTP, http.MethodGet, op.Path, nil) //nolint:bodyclose // It is closed at the end of the stream.
	if err != nil {
		return nil, err
	}
	if err := op.CheckHead(resp.StatusCode, resp.Header); err != nil || resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, errors.Join(fmt.Errorf("it answered %d", resp.StatusCode), err)
	}
	found := make(chan error, 1)
	go func() {
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxEventBytes)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
			if !ok {
				continue
			}
			var row struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(data, &row); err != nil || row.ID == id {
				found <- errors.Join(err, op.CheckItem("text/event-stream", slices.Clone(data)))
				return
			}
		}
		err := lines.Err()
		if err == nil {
			err = errors.New("it ended before the row came")
		}
		found <- err
	}()
	return found, nil
}
