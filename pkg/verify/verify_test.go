package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/verify"
)

// fill stores what is there before verify comes: rows, and a dead letter of somebody else.
func (p *platform) fill(rows int) {
	p.t.Helper()
	for i := range rows {
		at := time.Date(2001, 1, 1, 0, i, 0, 0, time.UTC).Format(time.RFC3339)
		for topic, record := range map[string]string{
			"flights": fmt.Sprintf(`{"origin":"SCL","departed_at":%q,"delay":%d}`, at, i),
			"orders":  fmt.Sprintf(`{"number":"n-%04d","at":%q,"total":1.5,"note":{"a":[1]}}`, i, at),
		} {
			if _, err := p.bus.Publish(p.t.Context(), topic, []byte(record), nil); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	if _, err := p.bus.Publish(p.t.Context(), "flights", []byte(`{"origin":"someone else's"}`), nil); err != nil {
		p.t.Fatal(err)
	}
	p.holds(map[string]int{"flights": rows, "flights-by_delay": rows, "flights-by_time": rows, "orders": rows, "orders-by_at": rows, "messages of flights-dead-inspect": 1})
}

// holds waits until the platform holds just that; counts of 0 may be left out.
func (p *platform) holds(want map[string]int) {
	p.t.Helper()
	var got map[string]int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		got = p.content()
		for name, n := range got {
			if n == 0 {
				delete(got, name)
			}
		}
		if cmp.Equal(want, got) {
			return
		}
	}
	p.t.Errorf("what is there (-want +got):\n%s", cmp.Diff(want, got))
}

const filledRows = 30

func failures(report verify.Report) []string {
	var names []string
	for _, r := range report.Results {
		if r.Status == verify.Fail {
			names = append(names, r.Name())
		}
	}
	return names
}

func describe(report verify.Report) string {
	var b strings.Builder
	for _, r := range report.Results {
		fmt.Fprintf(&b, "%s %s: %s\n", r.Status, r.Name(), r.Seen)
	}
	return b.String()
}

// TestWholeSystemPasses runs every check against a system that works, and leaves it as it was.
func TestWholeSystemPasses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.fill(filledRows)
	before := p.content()
	report := verify.Run(t.Context(), p.options(), p.deps())
	if !report.OK || len(report.Broken) != 0 || report.Schema != "latamctl.verify/v1" {
		t.Fatalf("report of %+v:\n%s", report.Broken, describe(report))
	}
	p.unchanged(before)
	skipped := map[string]string{}
	for _, r := range report.Results {
		if r.Expected == "" || r.Seen == "" || r.Next != "" {
			t.Errorf("check %+v says not what it should", r)
		}
		if r.Status == verify.Skip {
			skipped[r.Name()] = r.Seen
		}
		if want := map[string]string{
			"api/operations flights": "9 operations", "api/operations": "5 operations", "api/paging flights": "4 pages of at most",
			"api/publish orders": "in the tail", "canary/order orders": "still has the values of the newer", "canary/order flights": "both rows",
			"access/quota orders": "named",
		}[r.Name()]; !strings.Contains(r.Seen, want) {
			t.Errorf("%s saw %q, want %q", r.Name(), r.Seen, want)
		}
	}
	if diff := cmp.Diff(map[string]string{
		"access/auth flights": "the dataset declares no auth", "access/quota flights": "the dataset declares no quota",
		"infrastructure/drift": "nobody looks at it here", "monitors/synced": "nobody looks at it here",
		"monitors/quiet": "nobody looks at it here", "monitors/dashboards": "nobody looks at it here",
	}, skipped); diff != "" {
		t.Errorf("skipped:\n%s", diff)
	}
}

func (p *platform) unchanged(before map[string]int) {
	p.t.Helper()
	for name, n := range before {
		if n == 0 {
			delete(before, name)
		}
	}
	p.holds(before)
}

// TestEmptySystemPasses: a system without rows has nothing to page through, and works all the same.
func TestEmptySystemPasses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	o := p.options()
	o.Skip = []string{verify.HopCanary, verify.HopLatency}
	report := verify.Run(t.Context(), o, p.deps())
	if !report.OK {
		t.Error(describe(report))
	}
}

// TestEachBrokenHopIsNamed breaks one hop at a time. Just its hop is named, with what to do next, and
// nothing is left behind.
func TestEachBrokenHopIsNamed(t *testing.T) {
	t.Parallel()
	rows := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/rows") }
	header := func(name string) func(*platform) {
		return func(p *platform) { p.rewrite = func(r *http.Response) error { r.Header.Del(name); return nil } }
	}
	tests := []struct {
		name    string
		options platformOptions
		broken  func(*platform)
		bus     func(verify.Bus) verify.Bus
		hop     string
		check   string // a check that fails
		seen    string // in what it saw, or what to do next
	}{
		{name: "API down", broken: func(p *platform) {
			p.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
		}, hop: "api", check: "api/health", seen: "answered 503"},
		{name: "another declaration", options: platformOptions{served: strings.Replace(declaration, "note:   json", "note:   json\n      gate:   string", 1)}, hop: "declaration", check: "declaration/served orders", seen: "field gate is none here and string there"},
		{name: "topic missing", broken: func(p *platform) { p.deleteTopic("flights") }, hop: "resources", check: "resources/topics flights", seen: "topic flights does not exist"},
		{name: "dead-letter subscription missing", broken: func(p *platform) { p.deleteSubscription("orders-dead-inspect") }, hop: "resources", check: "resources/subscriptions orders", seen: "subscription orders-dead-inspect does not exist"},
		{name: "ingest stopped", broken: func(p *platform) { p.stopIngest() }, hop: "canary", check: "canary/fresh flights", seen: "waits in subscription flights-ingest, nobody takes it"},
		{name: "ingest with another declaration", options: platformOptions{ingested: strings.Replace(declaration, "^[A-Z]{3}$", "^SCL$", 1)},
			hop: "canary", check: "canary/fresh flights", seen: `it is a dead letter with reason pattern, field "origin"`},
		{name: "values changed", broken: func(p *platform) {
			p.replace(rows, func(b []byte) []byte {
				return regexp.MustCompile(`"delay":-?\d+`).ReplaceAllFunc(b, func(delay []byte) []byte {
					if string(delay) == `"delay":4999` {
						return []byte(`"delay":4998`)
					}
					return []byte(`"delay":4999`)
				})
			})
		}, hop: "canary", check: "canary/fresh flights", seen: "field delay is 499"},
		{name: "two rows of one key", broken: func(p *platform) {
			p.replace(func(r *http.Request) bool { return r.URL.Query().Has("number[eq]") }, func(b []byte) []byte {
				return regexp.MustCompile(`"data":\[(.*)\],"next_cursor"`).ReplaceAll(b, []byte(`"data":[$1,$1],"next_cursor"`))
			})
		}, hop: "canary", check: "canary/duplicate orders", seen: "its key has 2 rows"},
		{name: "no dead letters", bus: func(b verify.Bus) verify.Bus {
			return editedBus{Bus: b, receive: func(m *bus.Message) { m.Data = append(m.Data, '!') }}
		}, hop: "canary", check: "canary/poison flights", seen: "not among the dead letters"},
		{name: "wrong reason", bus: func(b verify.Bus) verify.Bus {
			return editedBus{Bus: b, receive: func(m *bus.Message) { m.Attributes[bus.AttrReason] = "bad_json" }}
		}, hop: "canary", check: "canary/poison flights", seen: `reason "bad_json"`},
		{name: "poison stored", bus: func(b verify.Bus) verify.Bus {
			return editedBus{Bus: b, publish: func(data []byte) []byte { return bytes.Replace(data, []byte(`,"latamctl_verify_poison":true`), nil, 1) }}
		}, hop: "canary", check: "canary/poison flights", seen: "not among the dead letters"},
		{name: "wrong schema", broken: func(p *platform) {
			p.replace(rows, func(b []byte) []byte {
				return regexp.MustCompile(`"delay":(-?\d+)`).ReplaceAll(b, []byte(`"delay":"$1"`))
			})
		}, hop: "api", check: "api/operations flights", seen: "delay: expected"},
		{name: "rows left out of pages", broken: func(p *platform) {
			p.replace(func(r *http.Request) bool { return r.URL.Query().Has("cursor") }, func(b []byte) []byte {
				return regexp.MustCompile(`"data":\[\{[^}]*\},`).ReplaceAll(b, []byte(`"data":[`))
			})
		}, hop: "api", check: "api/paging flights", seen: "is left out"},
		{name: "no tags", broken: header("ETag"), hop: "api", check: "api/caching orders", seen: "has no ETag"},
		{name: "cache age", broken: header("Cache-Control"), hop: "api", check: "api/caching flights", seen: "declared is 5s"},
		{name: "errors replaced", broken: func(p *platform) {
			p.rewrite = func(r *http.Response) error {
				if r.StatusCode == http.StatusBadRequest {
					r.Header.Set("Content-Type", "text/html")
				}
				return nil
			}
		}, hop: "api", check: "api/errors flights", seen: `content type is "text/html"`},
		{name: "auth off", options: platformOptions{open: true}, hop: "access", check: "access/auth orders", seen: "answered 200 without credentials"},
		{name: "quota not counted", broken: header("RateLimit-Policy"), hop: "access", check: "access/quota orders", seen: `RateLimit-Policy is ""`},
		{name: "slow", broken: func(p *platform) {
			p.decl.Datasets[0].SLO.Response = 20 * time.Millisecond
			p.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/datasets/flights/rows") {
					time.Sleep(40 * time.Millisecond)
				}
				return false
			}
		}, hop: "latency", check: "latency/response flights", seen: "the way to the API takes"},
		{name: "slow ingest", broken: func(p *platform) { p.decl.Datasets[1].SLO.IngestLatency = time.Microsecond }, hop: "latency", check: "latency/ingest orders", seen: "half within"},
		{name: "drift", broken: probed(verify.ProbeDrift), hop: "infrastructure", check: "infrastructure/drift", seen: "differs in storage"},
		{name: "monitor alerts", broken: probed(verify.ProbeQuiet), hop: "monitors", check: "monitors/quiet", seen: "differs in storage"},
		{name: "dashboard missing", broken: probed(verify.ProbeDashboards), hop: "monitors", check: "monitors/dashboards", seen: "latamctl next"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, tt.options)
			p.fill(filledRows)
			if tt.broken != nil {
				tt.broken(p)
			}
			before := p.content()
			o, deps := p.options(), p.deps()
			if o.For = 50 * time.Millisecond; tt.hop != "latency" {
				o.Load = 0
			}
			if tt.hop == "canary" {
				o.Wait = 500 * time.Millisecond // It is waited for in vain.
			}
			if tt.bus != nil {
				deps.Bus = tt.bus(deps.Bus)
				o.Only, o.Datasets = []string{verify.HopCanary}, o.Datasets[:1]
			}
			report := verify.Run(t.Context(), o, deps)
			if !slices.Equal(report.Broken, []string{tt.hop}) || report.OK || !slices.Contains(failures(report), tt.check) {
				t.Fatalf("broken %v, want %s by %s:\n%s", report.Broken, tt.hop, tt.check, describe(report))
			}
			for _, r := range report.Results {
				if r.Status == verify.Fail && (r.Next == "" || r.Expected == "") {
					t.Errorf("check %s does not say what was expected, or what to do next", r.Name())
				}
				if r.Name() == tt.check && !strings.Contains(r.Seen+r.Next, tt.seen) {
					t.Errorf("%s saw %q, next %q; want %q", tt.check, r.Seen, r.Next, tt.seen)
				}
			}
			if tt.name != "no dead letters" { // Nobody can take away what is hidden.
				p.unchanged(before)
			}
		})
	}
}

func probed(check string) func(*platform) {
	return func(p *platform) {
		p.probes = map[string]verify.Probe{check: {Run: func(context.Context) (string, string, error) {
			return "", "latamctl next", errors.New("what runs differs in storage")
		}}}
	}
}

// editedBus changes what goes through it.
type editedBus struct {
	verify.Bus
	publish func([]byte) []byte
	receive func(*bus.Message)
	after   func(topic string, data []byte)
}

func (b editedBus) Publish(ctx context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	if b.publish != nil {
		data = b.publish(data)
	}
	id, err := b.Bus.Publish(ctx, topic, data, attributes)
	if b.after != nil {
		b.after(topic, data)
	}
	return id, err
}

func (b editedBus) Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	return b.Bus.Receive(ctx, subscription, opts, func(ctx context.Context, m bus.Message) bool {
		if b.receive != nil {
			b.receive(&m)
		}
		return handle(ctx, m)
	})
}

// TestInterruptedLeavesNothing ends the context at every point where something was published.
func TestInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.fill(3)
	before := p.content()
	published := 0
	for at := 1; ; at++ {
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int32
		deps := p.deps()
		deps.Bus = editedBus{Bus: p.bus, after: func(string, []byte) {
			if int(n.Add(1)) == at {
				cancel()
			}
		}}
		o := p.options()
		o.Only, o.Settle = []string{verify.HopCanary, "publish"}, 20*time.Millisecond
		o.Datasets = o.Datasets[1:] // The one that has every case.
		report := verify.Run(ctx, o, deps)
		interrupted := ctx.Err() != nil
		cancel()
		if last := report.Results[len(report.Results)-1]; last.Check != "removed" || last.Status != verify.Pass {
			t.Fatalf("interrupted at message %d:\n%s", at, describe(report))
		}
		p.unchanged(before)
		if !interrupted {
			break
		}
		published = at
	}
	if published < 8 {
		t.Errorf("it was interrupted at %d messages only", published)
	}
}

// TestLateDuplicatesAreRemoved delivers every record once more, after verify has removed its row.
func TestLateDuplicatesAreRemoved(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.fill(3)
	before := p.content()
	deps := p.deps()
	again := make(chan struct{}, 100)
	deps.Bus = editedBus{Bus: p.bus, after: func(topic string, data []byte) {
		if bytes.Contains(data, []byte("latamctl_verify_poison")) {
			return
		}
		again <- struct{}{}
		time.AfterFunc(400*time.Millisecond, func() {
			_, _ = p.bus.Publish(context.Background(), topic, data, nil)
			<-again
		})
	}}
	o := p.options()
	o.Only, o.Settle = []string{verify.HopCanary}, 600*time.Millisecond
	report := verify.Run(t.Context(), o, deps)
	if !report.OK {
		t.Error(describe(report))
	}
	for len(again) > 0 { // Each comes within the time that everything has to stay removed.
		time.Sleep(time.Millisecond)
	}
	p.unchanged(before)
}

// TestByItsAddressAlone: without Pub/Sub, Bigtable and credentials, what can be seen is checked, and
// the rest has its reason.
func TestByItsAddressAlone(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	p.fill(filledRows)
	deps := verify.Deps{HTTP: &http.Client{}, Anonymous: &http.Client{}, Now: time.Now, Unseen: "there are no credentials"}
	report := verify.Run(t.Context(), p.options(), deps)
	if !report.OK {
		t.Error(describe(report))
	}
	want := map[string]string{
		"api/health": "pass", "declaration/served orders": "pass", "api/operations flights": "pass", "api/paging flights": "pass", "access/auth orders": "pass",
		"canary/fresh flights": "there are no credentials", "canary/poison flights": "there are no credentials", "resources/topics orders": "there are no credentials",
		"api/rows orders": "set LATAM_API_KEY", "api/paging orders": "set LATAM_API_KEY", "latency/response flights": "nobody offers a load here",
	}
	for _, r := range report.Results {
		if text, ok := want[r.Name()]; ok && text != string(r.Status) && !(r.Status == verify.Skip && strings.Contains(r.Seen, text)) {
			t.Errorf("%s: %s, %s; want %s", r.Name(), r.Status, r.Seen, text)
		}
		delete(want, r.Name())
	}
	if len(want) > 0 {
		t.Errorf("not checked: %v", want)
	}
}

// TestOnlyAndSkip choose by hop, by check, and by both.
func TestOnlyAndSkip(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, platformOptions{})
	for _, tt := range []struct{ only, skip, want string }{
		{"declaration", "", "declaration/served flights,declaration/served orders"},
		{"health,paging", "", "api/health,api/paging flights,api/paging orders"},
		{"api", "rows,operations,api/paging,caching,errors,publish", "api/health,api/contract"},
		{"topics", "resources", ""},
		{"resources/tables", "", "resources/tables flights,resources/tables orders"},
	} {
		o := p.options()
		split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
		o.Only, o.Skip = split(tt.only), split(tt.skip)
		for _, name := range append(o.Only, o.Skip...) {
			if !slices.Contains(verify.Names(), name) {
				t.Errorf("%s is no name", name)
			}
		}
		report := verify.Run(t.Context(), o, p.deps())
		var ran []string
		for _, r := range report.Results {
			ran = append(ran, r.Name())
		}
		if got := strings.Join(ran, ","); got != tt.want || !report.OK {
			t.Errorf("only %q, skip %q ran %q, want %q", tt.only, tt.skip, got, tt.want)
		}
	}
}
