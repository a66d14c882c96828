package warehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	bigquery "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/googleapi"
)

// reading is one query on its way: the job, and what came of its result.
type reading struct {
	client   *Client
	query    Query
	job      *bigquery.JobReference
	complete bool
	token    string
	bytes    int
	result   Result
}

// maxCalls bounds the requests for one result, whatever the other side answers. Polls wait on the
// other side, so that even a minute of them is far fewer.
const maxCalls = 1000

// run starts the query, waits for it, and reads pages until the last one or MaxRows.
func (r *reading) run(ctx context.Context) error {
	req := r.client.request(ctx, r.query)
	var first *bigquery.QueryResponse
	err := r.client.retry(ctx, func() (err error) {
		first, err = r.client.service.Jobs.Query(r.client.opts.Project, req).Context(ctx).Do()
		return err
	})
	if err != nil {
		return err
	}
	r.job, r.complete, r.token = first.JobReference, first.JobComplete, first.PageToken
	r.result.BytesProcessed, r.result.CacheHit = first.TotalBytesProcessed, first.CacheHit
	if r.complete {
		if err := r.take(first.Rows); err != nil {
			return err
		}
	}
	for calls := 0; !r.complete || r.token != "" && len(r.result.Rows) < r.query.MaxRows; calls++ {
		if calls == maxCalls {
			return fmt.Errorf("%w: no end after %d requests", ErrAnswer, calls)
		}
		if r.job == nil || r.job.JobId == "" {
			return fmt.Errorf("%w: more is to come, yet the job has no id", ErrAnswer)
		}
		if err := r.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// next waits for the job, or reads one more page of it.
func (r *reading) next(ctx context.Context) error {
	call := r.client.service.Jobs.GetQueryResults(r.client.opts.Project, r.job.JobId).Location(r.job.Location).
		MaxResults(r.client.pageRows(r.query)).TimeoutMs(r.client.opts.QueryTimeout.Milliseconds()).
		FormatOptionsUseInt64Timestamp(true).Context(ctx)
	if r.complete {
		call.PageToken(r.token)
	}
	began := time.Now()
	var page *bigquery.GetQueryResultsResponse
	err := r.client.retry(ctx, func() (err error) {
		page, err = call.Do()
		return err
	})
	if err != nil {
		return err
	}
	if !page.JobComplete {
		// The other side should have waited; where it does not, it is not asked at full speed.
		if r.complete {
			return fmt.Errorf("%w: a complete job is said to run", ErrAnswer)
		}
		return pause(ctx, r.client.opts.RetryDelay-time.Since(began))
	}
	r.complete, r.token = true, page.PageToken
	r.result.BytesProcessed, r.result.CacheHit = page.TotalBytesProcessed, page.CacheHit
	return r.take(page.Rows)
}

// take adds the rows of one page.
func (r *reading) take(rows []*bigquery.TableRow) error {
	for _, row := range rows {
		if len(r.result.Rows) == r.query.MaxRows {
			return nil
		}
		if row == nil || len(row.F) != r.query.Columns {
			return fmt.Errorf("%w: row %d does not have %d columns", ErrAnswer, len(r.result.Rows), r.query.Columns)
		}
		cells := make([]Cell, len(row.F))
		for i, f := range row.F {
			if f == nil || f.V == nil {
				cells[i].Null = true
				continue
			}
			text, ok := f.V.(string)
			if !ok {
				return fmt.Errorf("%w: row %d, column %d is not a text", ErrAnswer, len(r.result.Rows), i)
			}
			cells[i].Text = text
			r.bytes += len(text)
		}
		if r.bytes > r.client.opts.MaxResultBytes {
			return fmt.Errorf("%w: the result has more than %d bytes", ErrAnswer, r.client.opts.MaxResultBytes)
		}
		r.result.Rows = append(r.result.Rows, cells)
	}
	return nil
}

// retry repeats a call that failed for a reason that passes.
func (c *Client) retry(ctx context.Context, call func() error) error {
	delay := c.opts.RetryDelay
	for attempt := 1; ; attempt++ {
		err := classify(ctx, call())
		if err == nil || !errors.Is(err, ErrUnavailable) || attempt == c.opts.Attempts {
			return err
		}
		if paused := pause(ctx, delay/2+rand.N(delay)); paused != nil {
			return fmt.Errorf("%w, after: %w", paused, err)
		}
		delay *= 2
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// classify adds the kind of an error.
func classify(ctx context.Context, err error) error {
	var api *googleapi.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	case errors.As(err, &api):
		return fmt.Errorf("%w: %s", kindOf(api), describe(api))
	case isTransport(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrAnswer, err)
}

// kindOf reads the reason that BigQuery gives, and else the status.
func kindOf(api *googleapi.Error) error {
	for _, item := range api.Errors {
		switch item.Reason {
		case "bytesBilledLimitExceeded":
			return ErrTooCostly
		case "stopped", "timeout", "jobTimeout":
			return context.DeadlineExceeded
		case "rateLimitExceeded", "jobRateLimitExceeded", "quotaExceeded", "backendError", "internalError", "jobBackendError", "jobInternalError", "tableUnavailable":
			return ErrUnavailable
		case "accessDenied", "billingNotEnabled", "blocked":
			return ErrDenied
		}
	}
	switch {
	case api.Code >= http.StatusInternalServerError, api.Code == http.StatusTooManyRequests, api.Code == http.StatusRequestTimeout:
		return ErrUnavailable
	case api.Code == http.StatusUnauthorized, api.Code == http.StatusForbidden:
		return ErrDenied
	case api.Code >= http.StatusBadRequest:
		return ErrRefused
	}
	return ErrAnswer
}

// maxDescribed is how much of an answer goes into an error.
const maxDescribed = 300

func describe(api *googleapi.Error) string {
	text := api.Message
	if text == "" {
		text = strings.Join(strings.Fields(api.Body[:min(len(api.Body), 4*maxDescribed)]), " ")
	}
	return fmt.Sprintf("status %d: %.*q", api.Code, maxDescribed, text)
}

var errTooLarge = errors.New("the response is too large")

// limited bounds the size of responses, which the generated client reads to their end. It marks
// errors of the transport, which the client returns as they are.
type limited struct {
	next http.RoundTripper
	max  int64
}

// RoundTrip sends a request.
func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, transportError{err}
	}
	if res.ContentLength > l.max {
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", errTooLarge, res.ContentLength, l.max)
	}
	res.Body = &limitedBody{ReadCloser: res.Body, left: l.max}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

// Read fails once more than the limit was read.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	if b.left < 0 {
		return 0, errTooLarge
	}
	if err != nil && err != io.EOF {
		err = transportError{err}
	}
	return n, err
}

// transportError is an error of the connection, as opposed to one in what came over it.
type transportError struct{ error }

// Unwrap returns the cause.
func (e transportError) Unwrap() error { return e.error }

func isTransport(err error) bool {
	var t transportError
	return errors.As(err, &t)
}
