package warehouse

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/api/option"
)

// Options say where the tables are and how much one query may cost.
type Options struct {
	// Project runs and pays the queries, and has the dataset.
	Project string
	// Dataset is the BigQuery dataset; DatasetID gives the one of a declaration.
	Dataset string
	// ViewSuffix follows the dataset's name in the name of the view that shows each row once. Default "_latest".
	ViewSuffix string
	// Location is where the dataset is, such as EU; empty lets BigQuery find out.
	Location string
	// MaxBytesBilled refuses a query that would read more. Default 10 GiB.
	MaxBytesBilled int64
	// QueryTimeout bounds one query with its retries and all pages. Default 10s.
	QueryTimeout time.Duration
	// MaxResponseBytes bounds one response. Default 4 MiB.
	MaxResponseBytes int64
	// MaxResultBytes bounds the text of all cells of one result. Default 64 MiB.
	MaxResultBytes int
	// PageRows is how many rows one response has at most. Default 2,000.
	PageRows int
	// Attempts is how often one request is sent before it fails as unavailable. Default 3.
	Attempts int
	// RetryDelay is the wait before the second attempt; it doubles each time. Default 100ms.
	RetryDelay time.Duration
	// Endpoint is the URL of the API; empty is Google's. One at http:// on this machine is asked
	// without credentials, which suits a stand-in.
	Endpoint string
	// Client options say how to authenticate; none uses the default credentials.
	Client []option.ClientOption
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	if o.ViewSuffix == "" {
		o.ViewSuffix = "_latest"
	}
	if o.MaxBytesBilled == 0 {
		o.MaxBytesBilled = 10 << 30
	}
	if o.QueryTimeout == 0 {
		o.QueryTimeout = 10 * time.Second
	}
	if o.MaxResponseBytes == 0 {
		o.MaxResponseBytes = 4 << 20
	}
	if o.MaxResultBytes == 0 {
		o.MaxResultBytes = 64 << 20
	}
	if o.PageRows == 0 {
		o.PageRows = 2000
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 100 * time.Millisecond
	}
	return o
}

// The names go into SQL between backticks, so nothing that could end them is let in. Lengths are
// checked apart: to compile a count of a thousand takes longer than all else that starts with the program.
var (
	projectPattern = regexp.MustCompile(`^[a-z][a-z0-9.:-]+$`)
	datasetPattern = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	suffixPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

func isName(pattern *regexp.Regexp, shortest, longest int, name string) bool {
	return len(name) >= shortest && len(name) <= longest && pattern.MatchString(name)
}

// Validate says what is missing or out of range.
func (o Options) Validate() error {
	var errs []error
	check := func(good bool, format string, args ...any) {
		if !good {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(isName(projectPattern, 3, 100, o.Project), "project %q is not the id of a Google Cloud project", o.Project)
	check(isName(datasetPattern, 1, 1000, o.Dataset), "BigQuery dataset %q has other characters than letters, digits and _", o.Dataset)
	check(isName(suffixPattern, 1, 100, o.ViewSuffix), "view suffix %q has other characters than letters, digits, _ and -", o.ViewSuffix)
	check(o.MaxBytesBilled >= 10<<20, "max bytes billed %d is under 10 MiB, the least that BigQuery bills", o.MaxBytesBilled)
	check(o.QueryTimeout >= 10*time.Millisecond && o.QueryTimeout <= 10*time.Minute, "query timeout %s is not in 10ms..10m", o.QueryTimeout)
	check(o.MaxResponseBytes >= 1<<10 && o.MaxResponseBytes <= 64<<20, "max response bytes %d is not in 1 KiB..64 MiB", o.MaxResponseBytes)
	check(o.MaxResultBytes >= 1<<10 && o.MaxResultBytes <= 1<<30, "max result bytes %d is not in 1 KiB..1 GiB", o.MaxResultBytes)
	check(o.PageRows >= 1 && o.PageRows <= 100_000, "page rows %d is not in 1..100000", o.PageRows)
	check(o.Attempts >= 1 && o.Attempts <= 10, "attempts %d is not in 1..10", o.Attempts)
	check(o.RetryDelay >= time.Millisecond && o.RetryDelay <= time.Minute, "retry delay %s is not in 1ms..1m", o.RetryDelay)
	if _, err := o.endpoint(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("warehouse: %w", err)
	}
	return nil
}
