package query

import (
	"net/http"
	"sync"

	"github.com/latamctl/latamctl/pkg/web"
)

// document is an answer that never changes: it is made once, tagged once and compressed once.
type document struct {
	answer
	also    string // another media type under which it is asked for, "" = none
	policy  string // Content-Security-Policy of a page, "" = none
	mu      sync.Mutex
	encoded map[string][]byte
}

// documentCache lets clients keep a document for a while: it changes with the declaration only.
const documentCache = "no-cache"

func newDocument(kind string, body []byte) *document {
	full := kind
	if kind == typeHTML {
		full += "; charset=utf-8"
	}
	return &document{answer: answer{kind: kind, contentType: full, body: body, tag: tagOf(body), cache: documentCache}, encoded: map[string][]byte{}}
}

// in returns the document in a coding.
func (d *document) in(coding string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, ok := d.encoded[coding]
	if !ok {
		body = web.Encode(nil, d.body, coding)
		d.encoded[coding] = body
	}
	return body
}

// serveDocument answers with a document, which takes no parameters.
func (s *Service) serveDocument(d *document, w http.ResponseWriter, r *http.Request) *web.Problem {
	if p := noParameters(r.URL.RawQuery); p != nil {
		return p
	}
	_, ok := web.Accept(r.Header, d.kind)
	if !ok && d.also != "" {
		_, ok = web.Accept(r.Header, d.also)
	}
	if !ok {
		return notAcceptable(d.kind)
	}
	if d.policy != "" {
		w.Header().Set("Content-Security-Policy", d.policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
	}
	a := d.answer
	a.encode = d.in
	s.respond(w, r, a)
	return nil
}

// static serves a document that belongs to no dataset.
func (s *Service) static(d *document) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p := s.serveDocument(d, w, r); p != nil {
			web.WriteProblem(w, r, p)
		}
	}
}
