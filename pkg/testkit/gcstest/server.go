// Package gcstest is a stand-in for Google Cloud Storage in memory: as much of its JSON API, and of
// the plain reads beside it, as Terraform's gcs backend and Google's Go clients use. It keeps every
// version, checks preconditions and checksums, and fails on request.
package gcstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is the stand-in.
type Server struct {
	// URL is where it listens, without a path.
	URL string

	http *httptest.Server

	mu       sync.Mutex
	buckets  map[string]*bucket
	last     int64 // the newest generation; a later write always has a larger one
	uploads  map[string]*upload
	faults   []*Fault
	requests []string
	token    string
}

type bucket struct {
	project string
	config  map[string]any
	denied  bool
	objects map[string][]version // the newest is last
}

// version is one version of an object; a deletion is a version without attributes.
type version struct {
	attributes map[string]any
	generation int64
	data       []byte
}

func (v version) gone() bool { return v.attributes == nil }

// Fault makes requests fail. The first one that fits a request and has not been used up is used.
type Fault struct {
	// Method and Path choose the requests: the method, and a part of the unescaped path. Empty fits all.
	Method, Path string
	// Times is how often it happens.
	Times int
	// Status answers with this status and changes nothing.
	Status int
	// Delay waits before anything else.
	Delay time.Duration
	// CutBody answers with half of the body and ends the connection.
	CutBody bool
	// CommitThenDrop does what was asked and ends the connection without an answer.
	CommitThenDrop bool
	// Then is called once it was done, before the client learns of it. It may change the stand-in.
	Then func()
}

// New starts a stand-in without buckets. Close ends it.
func New() *Server {
	s := &Server{buckets: map[string]*bucket{}, uploads: map[string]*upload{}, last: 1_700_000_000_000_000}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	return s
}

// Close ends the stand-in and its connections.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Endpoint is the URL of the API, as Terraform's storage_custom_endpoint takes it.
func (s *Server) Endpoint() string { return s.URL + "/storage/v1/" }

// RequireToken refuses requests that do not carry this access token.
func (s *Server) RequireToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Inject adds a fault.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal takes all faults away.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// AddBucket makes a bucket with the configuration of the JSON API.
func (s *Server) AddBucket(name, project string, config map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addBucket(name, project, config)
}

func (s *Server) addBucket(name, project string, config map[string]any) *bucket {
	full := map[string]any{"kind": "storage#bucket", "id": name, "name": name, "metageneration": "1", "location": "US"}
	for key, value := range config {
		full[key] = value
	}
	if location, ok := full["location"].(string); ok {
		full["location"] = strings.ToUpper(location)
	}
	b := &bucket{project: project, config: full, objects: map[string][]version{}}
	s.buckets[name] = b
	return b
}

// DenyBucket makes a bucket one that the caller may not see, as one of somebody else's.
func (s *Server) DenyBucket(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name].denied = true
}

// Bucket returns a bucket's configuration and project.
func (s *Server) Bucket(name string) (config map[string]any, project string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	if !ok {
		return nil, "", false
	}
	return b.config, b.project, true
}

// Put stores an object as somebody else would and returns its generation.
func (s *Server) Put(bucketName, key string, data []byte) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store(s.buckets[bucketName], bucketName, key, data, nil).generation
}

// PutEncoded is Put for content with an encoding, such as gzip, which a plain read would take off.
func (s *Server) PutEncoded(bucketName, key, encoding string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(s.buckets[bucketName], bucketName, key, data, map[string]any{"contentEncoding": encoding})
}

// Object returns an object's content and generation.
func (s *Server) Object(bucketName, key string) (data []byte, generation int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[bucketName]
	if b == nil {
		return nil, 0, false
	}
	v, ok := b.current(key)
	return v.data, v.generation, ok
}

// Versions counts the versions of an object that are kept, without its deletions.
func (s *Server) Versions(bucketName, key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.buckets[bucketName].objects[key] {
		if !v.gone() {
			n++
		}
	}
	return n
}

// Requests are the requests so far, each as "METHOD /unescaped/path".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (b *bucket) current(key string) (version, bool) {
	versions := b.objects[key]
	if len(versions) == 0 || versions[len(versions)-1].gone() {
		return version{}, false
	}
	return versions[len(versions)-1], true
}

// ServeHTTP answers one request, with the fault that fits it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := s.enter(r)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
			return
		}
	}
	answer := httptest.NewRecorder()
	if fault.Status != 0 {
		problem(answer, fault.Status, "injected", "injected fault")
	} else {
		s.route(answer, r)
	}
	if fault.Then != nil {
		fault.Then()
	}
	if fault.CommitThenDrop {
		panic(http.ErrAbortHandler)
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	body := answer.Body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.Code)
	if fault.CutBody {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush() // Else the client sees no answer at all, and asks again by itself.
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// enter records a request and takes the fault that fits it.
func (s *Server) enter(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	for _, f := range s.faults {
		if f.Times > 0 && (f.Method == "" || f.Method == r.Method) && strings.Contains(r.URL.Path, f.Path) {
			f.Times--
			return *f
		}
	}
	return Fault{}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		problem(w, http.StatusUnauthorized, "required", "Anonymous caller does not have storage.objects.get access.")
		return
	}
	path := r.URL.EscapedPath()
	switch {
	case path == "/storage/v1/b":
		s.serveBuckets(w, r)
	case strings.HasPrefix(path, "/storage/v1/b/"):
		name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/storage/v1/b/"), "/")
		s.serveBucket(w, r, name, rest)
	case strings.HasPrefix(path, "/upload/storage/v1/b/"):
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/upload/storage/v1/b/"), "/")
		s.serveUpload(w, r, name)
	default: // A plain read: /bucket/object.
		name, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if b := s.find(w, name); b != nil {
			s.serveMedia(w, r, b, unescape(key))
		}
	}
}

// find returns a bucket, or answers why not.
func (s *Server) find(w http.ResponseWriter, name string) *bucket {
	b := s.buckets[name]
	switch {
	case b == nil:
		problem(w, http.StatusNotFound, "notFound", "The specified bucket does not exist.")
	case b.denied:
		problem(w, http.StatusForbidden, "forbidden", "caller does not have storage.buckets.get access to the Google Cloud Storage bucket.")
	default:
		return b
	}
	return nil
}

func unescape(path string) string {
	text, err := url.PathUnescape(path)
	if err != nil {
		return path
	}
	return text
}

func problem(w http.ResponseWriter, status int, reason, message string) {
	reply(w, status, map[string]any{"error": map[string]any{
		"code": status, "message": message, "errors": []any{map[string]any{"reason": reason, "message": message, "domain": "global"}},
	}})
}

func reply(w http.ResponseWriter, status int, body any) {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(body); err != nil {
		panic(fmt.Sprintf("gcstest: encode an answer: %v", err))
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}
