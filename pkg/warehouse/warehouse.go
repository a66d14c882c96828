// Package warehouse asks BigQuery. It is the only package that imports BigQuery's client, which is
// the generated one: queries are small, so they need no Arrow streams.
package warehouse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	bigquery "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"
	apitransport "google.golang.org/api/transport/http"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// The kinds of error that callers tell apart, with errors.Is. A query that was not answered in time
// is context.DeadlineExceeded.
var (
	// ErrUnavailable says that BigQuery could not be reached, or asked for a retry to the end.
	ErrUnavailable = errors.New("bigquery unavailable")
	// ErrDenied says that the credentials are missing or may not run the query or read the view.
	ErrDenied = errors.New("access denied by bigquery")
	// ErrRefused says that BigQuery does not take the query: it is wrong, or the view does not exist.
	ErrRefused = errors.New("query refused by bigquery")
	// ErrTooCostly says that the query would read more than Options.MaxBytesBilled.
	ErrTooCostly = errors.New("query would read more than it may")
	// ErrAnswer says that what came back is not an answer of BigQuery's, or larger than it may be.
	ErrAnswer = errors.New("unusable answer of bigquery")
)

// Param is one named parameter of a query. A list has Values, and is an array in SQL.
type Param struct {
	Name   string
	Type   string // as SQLType gives it
	Value  string
	Values []string
}

// Query is one query in GoogleSQL. Values stand in Params only.
type Query struct {
	SQL    string
	Params []Param
	// Columns is how many columns the result has.
	Columns int
	// MaxRows ends the reading of the result.
	MaxRows int
	// Labels are shown with the job; keys and values are lower-case letters, digits, - and _.
	Labels map[string]string
}

// Cell is one value as BigQuery writes it: timestamps in microseconds since 1970, bytes in base64.
type Cell struct {
	Text string
	Null bool
}

// Result is the answer to a query.
type Result struct {
	Rows [][]Cell
	// BytesProcessed is what the query read.
	BytesProcessed int64
	// CacheHit says that BigQuery had the result from before.
	CacheHit bool
}

// Client runs queries. It is safe for concurrent use.
type Client struct {
	opts    Options
	service *bigquery.Service
}

// Open prepares a client. It does not fail when BigQuery cannot be reached; Query does.
func Open(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	endpoint, err := opts.endpoint()
	if err != nil {
		return nil, err
	}
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: opts.QueryTimeout, ResponseHeaderTimeout: opts.QueryTimeout, MaxResponseHeaderBytes: 64 << 10,
	}
	clientOpts := append([]option.ClientOption{option.WithScopes(bigquery.BigqueryScope)}, opts.Client...)
	if endpoint != nil && endpoint.Scheme == "http" {
		clientOpts = append(clientOpts, option.WithoutAuthentication())
	}
	transport, err := apitransport.NewTransport(ctx, base, clientOpts...)
	if err != nil {
		return nil, fmt.Errorf("open bigquery of project %s: %w: %w", opts.Project, ErrDenied, err)
	}
	serviceOpts := []option.ClientOption{option.WithHTTPClient(&http.Client{Transport: limited{transport, opts.MaxResponseBytes}, CheckRedirect: noRedirect})}
	if endpoint != nil {
		serviceOpts = append(serviceOpts, option.WithEndpoint(strings.TrimSuffix(endpoint.String(), "/")+"/bigquery/v2/"))
	}
	service, err := bigquery.NewService(ctx, serviceOpts...)
	if err != nil {
		return nil, fmt.Errorf("open bigquery of project %s: %w", opts.Project, err)
	}
	return &Client{opts: opts, service: service}, nil
}

// noRedirect keeps the credentials from following an answer to another place.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// endpoint is where the API is, nil for Google's own.
func (o Options) endpoint() (*url.URL, error) {
	if o.Endpoint == "" {
		return nil, nil //nolint:nilnil // The absence of an endpoint is no error.
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("endpoint %q is not a URL such as https://bigquery.example.com", o.Endpoint)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, fmt.Errorf("endpoint %q is neither at https:// nor at http:// on this machine", o.Endpoint)
	}
	return u, nil
}

// View is the quoted name, for SQL, of the view that shows each row of a dataset once.
func (c *Client) View(ds *dataset.Dataset) string {
	return "`" + c.opts.Project + "`.`" + c.opts.Dataset + "`.`" + ds.Name + c.opts.ViewSuffix + "`"
}

// MaxBytesBilled is what one query may read.
func (c *Client) MaxBytesBilled() int64 { return c.opts.MaxBytesBilled }

// firstWait is how long the first request waits for the result. It is short, because only its
// answer has the name by which a query can be cancelled.
const firstWait = 2 * time.Second

// Query runs a query and reads its result. When ctx ends while the query runs, it is cancelled.
func (c *Client) Query(ctx context.Context, q Query) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.QueryTimeout)
	defer cancel()
	r := &reading{client: c, query: q}
	if err := r.run(ctx); err != nil {
		if r.job != nil && !r.complete && ctx.Err() != nil {
			c.abandon(ctx, r.job)
		}
		return Result{}, fmt.Errorf("query bigquery dataset %s: %w", c.opts.Dataset, err)
	}
	return r.result, nil
}

// cancelTimeout bounds the wish to cancel a job, which nobody waits for.
const cancelTimeout = time.Second

// abandon asks BigQuery to end a job whose result nobody wants any more. The job has a timeout of
// its own besides.
func (c *Client) abandon(ctx context.Context, job *bigquery.JobReference) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	_, _ = c.service.Jobs.Cancel(c.opts.Project, job.JobId).Location(job.Location).Context(ctx).Do()
}

func (c *Client) request(ctx context.Context, q Query) *bigquery.QueryRequest {
	no, yes := false, true
	left := c.opts.QueryTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	req := &bigquery.QueryRequest{
		Query: q.SQL, UseLegacySql: &no, UseQueryCache: &yes, ParameterMode: "NAMED",
		MaximumBytesBilled: c.opts.MaxBytesBilled, Labels: q.Labels, Location: c.opts.Location,
		MaxResults: c.pageRows(q), TimeoutMs: max(1, min(firstWait, left).Milliseconds()), JobTimeoutMs: max(1, left.Milliseconds()),
		RequestId: rand.Text(), FormatOptions: &bigquery.DataFormatOptions{UseInt64Timestamp: true},
	}
	for _, p := range q.Params {
		req.QueryParameters = append(req.QueryParameters, p.wire())
	}
	return req
}

func (c *Client) pageRows(q Query) int64 { return int64(min(c.opts.PageRows, q.MaxRows)) }

func (p Param) wire() *bigquery.QueryParameter {
	scalar := func(text string) *bigquery.QueryParameterValue {
		// An empty text is a value, too; left out it would be NULL.
		return &bigquery.QueryParameterValue{Value: text, ForceSendFields: []string{"Value"}}
	}
	w := &bigquery.QueryParameter{Name: p.Name, ParameterType: &bigquery.QueryParameterType{Type: p.Type}}
	if p.Values == nil {
		w.ParameterValue = scalar(p.Value)
		return w
	}
	w.ParameterType = &bigquery.QueryParameterType{Type: "ARRAY", ArrayType: w.ParameterType}
	w.ParameterValue = &bigquery.QueryParameterValue{ForceSendFields: []string{"ArrayValues"}, ArrayValues: []*bigquery.QueryParameterValue{}}
	for _, text := range p.Values {
		w.ParameterValue.ArrayValues = append(w.ParameterValue.ArrayValues, scalar(text))
	}
	return w
}
