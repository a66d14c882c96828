// Package monitortest is a strict stand-in for Datadog's API that lives in memory. It checks what it is
// sent as Datadog does, changes it as Datadog does, and fails in the ways in which Datadog fails.
// Only tests import it.
package monitortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// The only keys that the server knows.
const (
	APIKey      = "0123456789abcdef0123456789abcdef"
	AppKey      = "0123456789abcdef0123456789abcdef01234567"
	BearerToken = "ddpat_0123456789abcdef"
)

// OrgID is the number of the organization.
const OrgID = 1300336245

// Options are how a server differs from the usual one. The zero value is usable.
type Options struct {
	// Now is the clock of all times and rate limits; time.Now if it is nil.
	Now func() time.Time
	// Limits replaces the limits of buckets by their names, such as post_monitors.
	Limits map[string]Limit
	// ReadOnly refuses writes, as for keys that lack the scopes.
	ReadOnly bool
	// AllowDuplicates takes a monitor that is the same as another one, as Datadog does when its check is late.
	AllowDuplicates bool
	// ReferencedStatus is the status of a refused delete of a monitor that is in use: 400 if it is 0. It was 401 once.
	ReferencedStatus int
	// Report is told what the description of the API does not allow: requests that were accepted, and answers.
	Report func(violation string)
}

// Datadog is the server as a handler. It is safe for concurrent use.
type Datadog struct {
	o        Options
	routes   []route
	contract *contract

	mu      sync.Mutex
	kinds   map[declare.Kind]*collection
	serial  int64
	windows map[string]*window
	calls   []Call
	faults  *faults
	before  []func(*http.Request) *Response
	history map[string]Events
}

// Call is a request that the server got.
type Call struct {
	Method, Path string
	Query        string
	Status       int // 0 when the connection ended without an answer
}

func (c Call) String() string {
	target := c.Path
	if c.Query != "" {
		target += "?" + c.Query
	}
	return fmt.Sprintf("%s %s %d", c.Method, target, c.Status)
}

// Response is an answer, or how there is none.
type Response struct {
	Status int
	Header http.Header
	// Body is sent as JSON, but a []byte as it is, and nil not at all.
	Body any
	// Drop ends the connection without an answer.
	Drop bool
	// Cut ends the connection in the middle of the body.
	Cut bool
	// Hang answers nothing until the client gives up.
	Hang bool
}

// NewServer returns a server without objects.
func NewServer(o Options) *Datadog {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ReferencedStatus == 0 {
		o.ReferencedStatus = http.StatusBadRequest
	}
	described, _ := description() // New reports its error.
	d := &Datadog{
		o: o, routes: routes(), contract: described, windows: map[string]*window{}, history: map[string]Events{},
		kinds: map[declare.Kind]*collection{},
	}
	for _, kind := range declare.Kinds() {
		d.kinds[kind] = &collection{byID: map[string]*entity{}}
	}
	return d
}

// request is one that is being answered, with its body read.
type request struct {
	*http.Request
	query url.Values
	body  []byte
	path  []string // what stood for the variables of the route's pattern
}

// ServeHTTP answers as Datadog's API.
func (d *Datadog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := d.answer(r)
	if answer.Hang {
		<-r.Context().Done()
		return
	}
	if answer.Drop {
		panic(http.ErrAbortHandler) // Go's own way of closing a connection without an answer.
	}
	body := answer.bytes()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if len(body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	if answer.Cut {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(answer.Status)
		_, _ = w.Write(body[:len(body)/2]) //nolint:gosec // It is JSON and says so.
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(body) //nolint:gosec // It is JSON and says so.
}

// RoundTrip answers within the process, without a network: for tests with a clock of their own.
func (d *Datadog) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	inner := r.Clone(r.Context())
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	answer := d.answer(inner)
	_ = inner.Body.Close()
	if answer.Hang {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	if answer.Drop {
		return nil, io.ErrUnexpectedEOF
	}
	body := answer.bytes()
	response := &http.Response{
		Status: fmt.Sprintf("%d %s", answer.Status, http.StatusText(answer.Status)), StatusCode: answer.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r, ContentLength: int64(len(body)),
	}
	for name, values := range answer.Header {
		response.Header[name] = values
	}
	if len(body) > 0 {
		response.Header.Set("Content-Type", "application/json")
	}
	var reader io.Reader = bytes.NewReader(body)
	if answer.Cut {
		reader = io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{})
	}
	response.Body = io.NopCloser(reader)
	return response, nil
}

// broken is a body after its connection has ended.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (r *Response) bytes() []byte {
	switch body := r.Body.(type) {
	case nil:
		return nil
	case []byte:
		return body
	}
	text, err := json.Marshal(r.Body)
	if err != nil {
		return fmt.Appendf(nil, `{"errors":[%q]}`, err)
	}
	return text
}

// answer finds what to say and notes the call.
func (d *Datadog) answer(r *http.Request) *Response {
	answer := d.decide(r)
	status := answer.Status
	if answer.Drop || answer.Hang {
		status = 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, Call{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Status: status})
	return answer
}

func (d *Datadog) decide(r *http.Request) *Response {
	d.mu.Lock()
	hooks := d.before
	d.mu.Unlock()
	for _, hook := range hooks { // Hooks may call the server's methods, so the lock is not held.
		if answer := hook(r); answer != nil {
			return answer
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return problem(http.StatusBadRequest, "The request body could not be read")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if answer := d.faults.first(r); answer != nil {
		return answer
	}
	rt, path := d.route(r)
	if rt == nil {
		return problem(http.StatusNotFound, "Not found")
	}
	if answer := d.authenticate(r, rt); answer != nil {
		return answer
	}
	bucket, answer := d.take(rt.bucket)
	if answer != nil {
		return answer
	}
	answer = rt.serve(d, &request{Request: r, query: r.URL.Query(), body: body, path: path})
	d.check(rt, r, body, answer)
	if answer.Header == nil {
		answer.Header = http.Header{}
	}
	bucket.describe(answer.Header)
	return d.faults.last(r, answer)
}

// authenticate checks the keys and what they allow.
func (d *Datadog) authenticate(r *http.Request, rt *route) *Response {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if token != BearerToken {
			return forbidden()
		}
	} else {
		switch r.Header.Get("DD-API-KEY") {
		case APIKey:
		case "":
			return problem(http.StatusForbidden, "API key required")
		default:
			return forbidden()
		}
		if !rt.apiKeyOnly && r.Header.Get("DD-APPLICATION-KEY") != AppKey {
			return forbidden()
		}
	}
	if rt.writes && d.o.ReadOnly {
		return forbidden()
	}
	return nil
}

// forbidden is what the edge of Datadog's network says, which is more than the API does.
func forbidden() *Response {
	return &Response{Status: http.StatusForbidden, Body: map[string]any{
		"status": "error", "code": 403, "errors": []string{"Forbidden"}, "statuspage": "http://status.datadoghq.com",
		"twitter": "http://twitter.com/datadogops", "email": "support@datadoghq.com",
	}}
}

func problem(status int, format string, args ...any) *Response {
	return &Response{Status: status, Body: map[string]any{"errors": []string{fmt.Sprintf(format, args...)}}}
}

func ok(body any) *Response { return &Response{Status: http.StatusOK, Body: body} }

// Calls returns the requests so far, in the order of their answers.
func (d *Datadog) Calls() []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Call(nil), d.calls...)
}

// ResetCalls forgets the requests so far.
func (d *Datadog) ResetCalls() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = nil
}

// Before asks a hook before each request: what it returns is the answer, and nil lets the server answer.
func (d *Datadog) Before(hook func(*http.Request) *Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = append(d.before[:len(d.before):len(d.before)], hook)
}
