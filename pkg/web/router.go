package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Router matches paths whose variables are whole segments, such as /v1/datasets/{dataset}/rows.
// Unlike http.ServeMux it never redirects, and all its own answers are problems. Literal segments
// win over variables. HEAD is served by GET, OPTIONS by the router.
type Router struct {
	routes []*route
}

type route struct {
	pattern  string
	segments []string
	methods  []string
	handlers []http.Handler
}

// Handle adds a route; the handler reads variables with r.PathValue. It panics when the same method and pattern
// come twice or the pattern is malformed, because routes are written in code.
func (rt *Router) Handle(method, pattern string, h http.Handler) {
	if !strings.HasPrefix(pattern, "/") {
		panic(fmt.Sprintf("web: pattern %q does not begin with a slash", pattern))
	}
	at := slices.IndexFunc(rt.routes, func(r *route) bool { return r.pattern == pattern })
	if at < 0 {
		at = len(rt.routes)
		rt.routes = append(rt.routes, &route{pattern: pattern, segments: strings.Split(pattern[1:], "/")})
	}
	r := rt.routes[at]
	if slices.Contains(r.methods, method) {
		panic(fmt.Sprintf("web: %s %s is routed twice", method, pattern))
	}
	r.methods, r.handlers = append(r.methods, method), append(r.handlers, h)
}

// HandleFunc adds a route to a function.
func (rt *Router) HandleFunc(method, pattern string, h http.HandlerFunc) {
	rt.Handle(method, pattern, h)
}

// Routes lists "METHOD /pattern" in the order of Handle.
func (rt *Router) Routes() []string {
	var list []string
	for _, r := range rt.routes {
		for _, m := range r.methods {
			list = append(list, m+" "+r.pattern)
		}
	}
	return list
}

func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	match, values := rt.match(r.Method, r.URL.EscapedPath())
	if match == nil {
		WriteProblem(w, r, &Problem{Code: NotFound, Detail: fmt.Sprintf("Nothing is served under %q.", Quote(r.URL.Path)), Hint: "GET / lists where to start."})
		return
	}
	SetRoute(r.Context(), match.pattern)
	v := 0
	for _, segment := range match.segments {
		if name, ok := variable(segment); ok {
			r.SetPathValue(name, values[v])
			v++
		}
	}
	match.serve(w, r)
}

// match prefers the route that has a literal where another has a variable. Only when no route has
// the method does one without it match, to say which methods there are.
func (rt *Router) match(method, escapedPath string) (best *route, values []string) {
	if !strings.HasPrefix(escapedPath, "/") {
		return nil, nil
	}
	served := false
	for _, r := range rt.routes {
		vs, ok := r.match(escapedPath[1:])
		if !ok {
			continue
		}
		serves := r.serves(method)
		if best == nil || serves && !served || serves == served && len(vs) < len(values) {
			best, values, served = r, vs, serves
		}
	}
	return best, values
}

// serves says whether a route has the method. All have OPTIONS, which the most literal one answers.
func (r *route) serves(method string) bool {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return slices.Contains(r.methods, method)
}

func (r *route) match(path string) (values []string, ok bool) {
	for i, want := range r.segments {
		got, rest, more := strings.Cut(path, "/")
		if more != (i < len(r.segments)-1) {
			return nil, false
		}
		path = rest
		if _, isVar := variable(want); !isVar {
			if got != want {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got)
		if err != nil || value == "" {
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}

func variable(segment string) (name string, ok bool) {
	if len(segment) > 2 && segment[0] == '{' && segment[len(segment)-1] == '}' {
		return segment[1 : len(segment)-1], true
	}
	return "", false
}

func (r *route) serve(w http.ResponseWriter, req *http.Request) {
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if at := slices.Index(r.methods, method); at >= 0 {
		r.handlers[at].ServeHTTP(w, req)
		return
	}
	if req.Method == http.MethodOptions {
		w.Header().Set("Allow", strings.Join(r.allow(), ", "))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	WriteProblem(w, req, &Problem{
		Code: MethodNotAllowed, Allow: r.allow(),
		Detail: fmt.Sprintf("%s does not support %s.", r.pattern, Quote(req.Method)),
		Hint:   "It supports " + strings.Join(r.allow(), ", ") + ".",
	})
}

func (r *route) allow() []string {
	allow := slices.Clone(r.methods)
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	allow = append(allow, http.MethodOptions)
	slices.Sort(allow)
	return allow
}

// SetRoute names the route of the request in the metric, the span and the access log. Router calls
// it; only a handler that routes by itself has to.
func SetRoute(ctx context.Context, pattern string) {
	if x := exchangeOf(ctx); x != nil {
		x.route = pattern
	}
}
