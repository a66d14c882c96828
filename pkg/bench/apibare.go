package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// bareServer answers the requests of a comparison as little as one can: it reads the rows with the
// Bigtable client alone and writes the bytes that the API answered, which it was given before.
type bareServer struct {
	table   string
	plain   PlainReader
	answers map[string]bareAnswer // by request target
}

type bareAnswer struct {
	request APIRequest
	body    []byte
	length  string
}

func (b *bareServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := b.answers[r.RequestURI]
	if !ok {
		http.NotFound(w, r)
		return
	}
	var n int
	var err error
	if a.request.Key != "" {
		n, err = b.plain.Get(r.Context(), b.table, a.request.Key)
	} else {
		n, err = b.plain.Page(r.Context(), b.table, a.request.Start, a.request.End, pageRows)
	}
	if err != nil || n == 0 {
		http.Error(w, fmt.Sprintf("%d read: %v", n, err), http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.Header()["Content-Length"] = []string{a.length}
	_, _ = w.Write(a.body)
}

// The comparison keeps the body of each of its requests.
const (
	comparedRequests = 2000
	comparedPages    = 200
)

// compare lets the API and the bare handler answer the same requests as fast as they can, twice in
// turns, and sets the rates against each other.
func (m measurement) compare(ctx context.Context, target APITarget, table string, scenarios []APIScenario, plain PlainReader) (runs []Run, all []Comparison, err error) {
	for _, s := range scenarios {
		switch s.Name {
		case ScenarioGet:
			s.Requests = s.Requests[:min(len(s.Requests), comparedRequests)]
		case ScenarioPage:
			s.Requests = s.Requests[:min(len(s.Requests), comparedPages)]
		default: // What a filter drops, a bare handler would have to drop as well.
			continue
		}
		done, c, err := m.compareScenario(ctx, target, table, s, plain)
		runs = append(runs, done...)
		if err != nil {
			return runs, all, fmt.Errorf("compare %s with a bare handler: %w", s.Name, err)
		}
		all = append(all, c)
	}
	return runs, all, nil
}

func (m measurement) compareScenario(ctx context.Context, target APITarget, table string, s APIScenario, plain PlainReader) (runs []Run, c Comparison, err error) {
	bare := &bareServer{table: table, plain: plain, answers: map[string]bareAnswer{}}
	if err := bare.learn(ctx, target, s); err != nil {
		return nil, c, err
	}
	addr, stop, err := serveBare(ctx, bare)
	if err != nil {
		return nil, c, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	rate := map[string]float64{}
	for _, t := range []APITarget{{Name: bareName, Addr: addr}, target, target, {Name: bareName, Addr: addr}} {
		inner := measurement{opts: m.opts, Deps: m.Deps}
		inner.Target = t.Name
		run, err := inner.load(ctx, t, s, 0)
		if err != nil {
			return runs, c, err
		}
		run.Name, run.Yardstick = s.Name+"-compared", t.Name == bareName
		runs = append(runs, run)
		rate[t.Name] += run.AchievedPerSecond
	}
	ratio := math.Round(rate[target.Name]/rate[bareName]*1000) / 1000
	return runs, Comparison{Name: s.Name + " against a bare handler", Ratio: ratio, Target: APIRatio}, nil
}

// learn asks the API for the body of every request.
func (b *bareServer) learn(ctx context.Context, target APITarget, s APIScenario) error {
	c := &httpConn{addr: target.Addr, timeout: requestTimeout, keep: true}
	defer c.close()
	for _, r := range s.Requests {
		if err := c.do(ctx, rawRequest(target.Addr, target.Header, r.Target)); err != nil {
			return err
		}
		b.answers[r.Target] = bareAnswer{request: r, body: append([]byte(nil), c.body...), length: strconv.Itoa(len(c.body))}
	}
	return nil
}

func serveBare(ctx context.Context, handler http.Handler) (addr string, stop func() error, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for the bare handler: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: requestTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return l.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := server.Shutdown(ctx)
		<-ended //nolint:errcheck // It always says that the server was closed, on purpose.
		return err
	}, nil
}
