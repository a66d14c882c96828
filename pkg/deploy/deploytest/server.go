// Package deploytest has a stand-in of the API server of a Kubernetes cluster, for tests: it keeps
// objects in memory and applies them with the algorithm of the real one, field managers and conflicts
// included. It runs nothing until Run is called; then Deployments get pods at once, without a process.
package deploytest

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Token is the only one that the server accepts.
const Token = "the-token-of-tests" //nolint:gosec // It opens nothing but this server.

// Server is the stand-in.
type Server struct {
	// Endpoint and CA are what a client needs.
	Endpoint string
	CA       []byte

	http   *httptest.Server
	schema managedfields.TypeConverter

	mu       sync.Mutex
	objects  map[string]*unstructured.Unstructured // by key
	missing  map[string]bool                       // group/version
	version  int
	requests []string
	before   func(Request) *apierrors.StatusError
	// starts tells whether pods of a Deployment with an image get ready; nil is that nothing runs.
	starts   func(deployment, image string) bool
	minReady int
	// controlled is the version of the objects that control saw last.
	controlled int
	forwards   map[string]string // address of what runs in a pod, by image
}

// Request is one request, as Before sees it.
type Request struct {
	Method, Path string
	DryRun       bool
	// Writes is true when it would change something.
	Writes bool
	Body   []byte
}

// New starts a server with the namespaces that every cluster has.
func New() *Server {
	s := start(newConverter())
	for _, name := range []string{"default", "kube-system"} {
		s.Put(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}})
	}
	return s
}

func start(schema managedfields.TypeConverter) *Server {
	s := &Server{objects: map[string]*unstructured.Unstructured{}, missing: map[string]bool{}, forwards: map[string]string{}, schema: schema}
	s.http = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	s.Endpoint = s.http.URL
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	return s
}

// Copy starts another server with the same objects, and what runs.
func (s *Server) Copy() *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := start(s.schema)
	for key, o := range s.objects {
		c.objects[key] = o.DeepCopy()
	}
	c.version, c.starts, c.minReady = s.version, s.starts, -1
	return c
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

// Remove takes an API away, such as gateway.networking.k8s.io/v1.
func (s *Server) Remove(groupVersion string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing[groupVersion] = true
}

// Restore brings back an API that Remove took away.
func (s *Server) Restore(groupVersion string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.missing, groupVersion)
}

// Before is asked about each request; an error is the answer. It must not call the server.
func (s *Server) Before(f func(Request) *apierrors.StatusError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Requests are the requests so far, as METHOD path, and forgets them.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// Objects are copies of all objects by kind/namespace/name, or kind/name.
func (s *Server) Objects() map[string]*unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]*unstructured.Unstructured{}
	for _, o := range s.objects {
		all[address(o)] = o.DeepCopy()
	}
	return all
}

func address(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// Put stores an object as somebody else's, whole.
func (s *Server) Put(o *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := kindOf(o.GroupVersionKind())
	if !ok {
		panic(fmt.Sprintf("deploytest: no kind %s", o.GroupVersionKind()))
	}
	if err := s.update(k, nil, o.DeepCopy(), "somebody", ""); err != nil {
		panic(err)
	}
}

// Edit changes an object as `kubectl edit` does, under the name of a manager. subresource is "" or "scale".
func (s *Server) Edit(where, manager, subresource string, change func(o map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, live := range s.objects {
		if address(live) != where {
			continue
		}
		k, _ := kindOf(live.GroupVersionKind())
		edited := live.DeepCopy()
		change(edited.Object)
		if err := s.update(k, live, edited, manager, subresource); err != nil {
			panic(err)
		}
		return
	}
	panic("deploytest: no object " + where)
}

// Apply applies an object server-side under the name of another manager.
func (s *Server) Apply(o *unstructured.Unstructured, manager string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _ := kindOf(o.GroupVersionKind())
	_, err := s.apply(k, o.DeepCopy(), applyOptions{manager: manager, force: true})
	return err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return
	}
	if strings.HasSuffix(r.URL.Path, "/portforward") {
		s.forward(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, err := s.answer(r, body)
	s.control()
	code := http.StatusOK
	if text, ok := answer.(plainText); ok && err == nil {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, string(text)) //nolint:gosec // It is no page of a browser.
		return
	}
	if err != nil {
		var status *apierrors.StatusError
		if !errors.As(err, &status) {
			status = apierrors.NewInternalError(err)
		}
		status.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		answer, code = status.ErrStatus, int(status.ErrStatus.Code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *Server) answer(r *http.Request, body []byte) (any, error) {
	dryRun := len(r.URL.Query()["dryRun"]) > 0 || strings.Contains(string(body), `"dryRun"`) && r.Method == http.MethodDelete
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer "+Token {
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	if s.before != nil {
		if err := s.before(Request{Method: r.Method, Path: r.URL.Path, DryRun: dryRun, Writes: r.Method != http.MethodGet && !dryRun, Body: body}); err != nil {
			return nil, err
		}
	}
	at, ok := parsePath(r.URL.Path)
	if !ok || s.missing[at.gv.String()] {
		return nil, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, r.URL.Path, "404 page not found", 0, true)
	}
	if at.resource == "" {
		return apiResources(at.gv)
	}
	k, ok := kindAt(at.gv, at.resource)
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: at.gv.Group, Resource: at.resource}, at.name)
	}
	return s.request(r, k, at, body, dryRun)
}

// request does what is asked of one kind.
func (s *Server) request(r *http.Request, k kind, at path, body []byte, dryRun bool) (any, error) {
	switch {
	case r.Method == http.MethodGet && at.sub == "log":
		return plainText("started " + at.name + "\nready\n"), nil
	case at.sub != "":
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: k.gvk.Group, Resource: k.resource + "/" + at.sub}, at.name)
	case r.Method == http.MethodPut, r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/merge-patch+json":
		return s.change(r, k, at, body)
	case r.Method == http.MethodGet && at.name == "":
		return s.list(k, at.namespace, r.URL.Query().Get("labelSelector"))
	case r.Method == http.MethodGet:
		return s.find(k, at)
	case r.Method == http.MethodDelete:
		return s.remove(k, at, body, dryRun)
	case r.Method == http.MethodPost:
		return s.create(k, at, body, r.URL.Query().Get("fieldManager"))
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml":
		return s.applied(r, k, at, body, dryRun)
	}
	return nil, apierrors.NewMethodNotSupported(schema.GroupResource{Group: k.gvk.Group, Resource: k.resource}, r.Method)
}

// plainText is an answer that is no JSON.
type plainText string

func (s *Server) applied(r *http.Request, k kind, at path, body []byte, dryRun bool) (any, error) {
	o := &unstructured.Unstructured{}
	text, err := yaml.YAMLToJSON(body)
	if err == nil {
		err = o.UnmarshalJSON(text)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if k.namespaced {
		o.SetNamespace(at.namespace)
	}
	q := r.URL.Query()
	return s.apply(k, o, applyOptions{manager: q.Get("fieldManager"), force: q.Get("force") == "true", dryRun: dryRun, strict: q.Get("fieldValidation") == "Strict"})
}

// change is a whole object, or some fields of one, sent for one that exists.
func (s *Server) change(r *http.Request, k kind, at path, body []byte) (any, error) {
	live, err := s.find(k, at)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &fields); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := &unstructured.Unstructured{Object: fields}
	if r.Method == http.MethodPatch {
		o = live.DeepCopy()
		merge(o.Object, fields)
	}
	if o.GetUID() != "" && o.GetUID() != live.GetUID() || o.GetResourceVersion() != "" && o.GetResourceVersion() != live.GetResourceVersion() {
		return nil, apierrors.NewConflict(k.groupResource(), at.name, errors.New("the object has been modified"))
	}
	if err := s.update(k, live, o, r.URL.Query().Get("fieldManager"), ""); err != nil {
		return nil, err
	}
	return s.find(k, at)
}

// merge is JSON Merge Patch.
func merge(into, fields map[string]any) {
	for key, value := range fields {
		inner, isMap := value.(map[string]any)
		have, alsoMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && alsoMap:
			merge(have, inner)
		default:
			into[key] = value
		}
	}
}

func (s *Server) list(k kind, namespace, selector string) (any, error) {
	want, err := labels.Parse(selector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	items := []any{}
	for _, key := range s.keys() {
		o := s.objects[key]
		if o.GroupVersionKind() == k.gvk && o.GetNamespace() == namespace && want.Matches(labels.Set(o.GetLabels())) {
			items = append(items, o.DeepCopy().Object)
		}
	}
	return map[string]any{
		"apiVersion": k.gvk.GroupVersion().String(), "kind": k.gvk.Kind + "List",
		"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}, "items": items,
	}, nil
}

func (s *Server) keys() []string {
	var keys []string
	for key := range s.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (s *Server) find(k kind, at path) (*unstructured.Unstructured, error) {
	if o := s.objects[k.key(at.namespace, at.name)]; o != nil {
		return o.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(k.groupResource(), at.name)
}

func (s *Server) remove(k kind, at path, body []byte, dryRun bool) (any, error) {
	o, err := s.find(k, at)
	if err != nil {
		return nil, err
	}
	var opts metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &opts); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if opts.Preconditions != nil && opts.Preconditions.UID != nil && *opts.Preconditions.UID != o.GetUID() {
		return nil, apierrors.NewConflict(k.groupResource(), at.name, errors.New("the UID in the precondition does not match"))
	}
	if !dryRun {
		delete(s.objects, k.key(at.namespace, at.name))
		if k.gvk.Kind == "Namespace" { // It takes along everything in it.
			for key, inside := range s.objects {
				if inside.GetNamespace() == at.name {
					delete(s.objects, key)
				}
			}
		}
	}
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}, nil
}

func (s *Server) create(k kind, at path, body []byte, manager string) (any, error) {
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if k.namespaced {
		o.SetNamespace(at.namespace)
	}
	if s.objects[k.key(at.namespace, o.GetName())] != nil {
		return nil, apierrors.NewAlreadyExists(k.groupResource(), o.GetName())
	}
	if err := s.update(k, nil, o, manager, ""); err != nil {
		return nil, err
	}
	return s.objects[k.key(at.namespace, o.GetName())].DeepCopy(), nil
}
