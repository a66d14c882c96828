package verify

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// auth asks for rows without credentials and with bad ones.
func (r *runner) auth(ctx context.Context, ds *dataset.Dataset, res *Result) {
	path := datasetPath(ds) + "/rows?limit=1"
	res.Next = "is the API started with --no-auth, or with a latam.yaml that declares no auth for it?"
	switch {
	case !asks(ds):
		res.skip("the dataset declares no auth")
		return
	case r.deps.Anonymous == nil:
		res.skip("nobody asks without credentials here")
		return
	}
	res.Expected = "GET " + path + " answers 401 without credentials, and with bad ones"
	gateway := r.behindGateway(ctx)
	for _, c := range []struct {
		what    string
		headers []string
	}{
		{"without credentials", nil},
		{"with a key that nobody made", []string{"X-Api-Key", "lk_latamctl-verify"}},
		{"with a token that nobody signed", []string{"Authorization", "Bearer latamctl.verify.token"}},
	} {
		a, err := r.ask(ctx, r.deps.Anonymous, http.MethodGet, path, nil, c.headers...)
		refused := a.status == http.StatusUnauthorized || gateway && (a.status == http.StatusForbidden || a.status == http.StatusBadRequest)
		switch {
		case err != nil:
			res.fail(c.what + ": " + err.Error())
			return
		case !refused:
			res.fail(fmt.Sprintf("it answered %d %s", a.status, c.what))
			return
		case a.header.Get("WWW-Authenticate") == "" && !gateway:
			res.fail("the refusal does not say how to authenticate: it has no WWW-Authenticate")
			return
		}
	}
	res.pass("it answered 401 without credentials, and with bad ones")
}

var remainingPattern = regexp.MustCompile(`(?:^|;)r=(\d+)`)

// quota looks at what the API says of a caller's quota, in two requests. It uses up no quota: who asks
// may need it.
func (r *runner) quota(ctx context.Context, ds *dataset.Dataset, res *Result) {
	limit := ds.API.QuotaPerMinute
	path := datasetPath(ds) + "/rows?limit=1"
	res.Next = "does the API run with this latam.yaml? behind the gateway quotas are the gateway's to count"
	client := r.deps.HTTP
	switch {
	case limit == 0:
		res.skip("the dataset declares no quota")
		return
	case r.behindGateway(ctx):
		res.skip("the gateway counts, and does not say how much is left")
		return
	case r.deps.Owner || !asks(ds):
		client = r.deps.Anonymous // The owner of a stack uses no quota.
	}
	if client == nil {
		res.skip("nobody asks without credentials here")
		return
	}
	policy := fmt.Sprintf(`"default";q=%d;w=60`, limit)
	res.Expected = fmt.Sprintf("GET %s names the quota of %d a minute, and counts", path, limit)
	var left []int
	for range 2 {
		a, err := r.ask(ctx, client, http.MethodGet, path, nil)
		if err != nil {
			res.fail(err.Error())
			return
		}
		if got := a.header.Get("RateLimit-Policy"); got != policy {
			res.fail(fmt.Sprintf("RateLimit-Policy is %q, expected %s", got, policy))
			return
		}
		switch n, ok := remaining(a.header); {
		case a.status == http.StatusTooManyRequests:
			res.pass("it answered 429: the quota is used up")
			return
		case a.status == http.StatusUnauthorized:
			res.pass("the quota is named; with credentials it would be counted")
			return
		case !ok:
			res.fail(fmt.Sprintf("RateLimit is %q, which does not say what is left", a.header.Get("RateLimit")))
			return
		default:
			left = append(left, n)
		}
	}
	if left[0] >= limit || left[1] >= limit {
		res.fail(fmt.Sprintf("after two requests %d of %d are left", left[1], limit))
		return
	}
	res.pass(fmt.Sprintf("%d of %d are left", left[1], limit))
}

func remaining(h http.Header) (int, bool) {
	m := remainingPattern.FindStringSubmatch(strings.ReplaceAll(h.Get("RateLimit"), " ", ""))
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}
