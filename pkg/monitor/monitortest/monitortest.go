package monitortest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Server is a Datadog for one test, on a port of the loopback.
type Server struct {
	*Datadog
	t   testing.TB
	url string
}

// New starts a server that ends with the test. What the description of the API does not allow fails the test.
func New(t testing.TB, change ...func(*Options)) *Server {
	t.Helper()
	if err := Described(); errors.Is(err, ErrNoDescription) {
		t.Log(err)
	} else if err != nil {
		t.Fatal(err)
	}
	o := Options{Report: func(violation string) { t.Error(violation) }}
	for _, c := range change {
		c(&o)
	}
	d := NewServer(o)
	listener := httptest.NewServer(d)
	t.Cleanup(listener.Close)
	return &Server{Datadog: d, t: t, url: listener.URL}
}

// URL is where the server listens.
func (s *Server) URL() string { return s.url }

// Client returns an HTTP client that reaches the server without a network, by any URL.
func (d *Datadog) Client() *http.Client { return &http.Client{Transport: d} }

// Seed makes an object as its create would and returns its id.
func (s *Server) Seed(kind declare.Kind, payload map[string]any) string {
	s.t.Helper()
	id, err := s.Add(kind, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// SeedForeign makes n objects of all kinds that no sync may touch, however much they look like the
// stack's, which is latam-prod unless it is given.
func (s *Server) SeedForeign(n int, stack ...string) {
	s.t.Helper()
	if err := s.AddForeign(n, append(stack, "latam-prod")[0]); err != nil {
		s.t.Fatal(err)
	}
}

// Edit changes an object as someone does in Datadog's pages. The change is not checked.
func (s *Server) Edit(kind declare.Kind, id string, change func(object map[string]any)) {
	s.t.Helper()
	if err := s.Datadog.Edit(kind, id, change); err != nil {
		s.t.Fatal(err)
	}
}
