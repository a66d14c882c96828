package query

import (
	"net/http"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// Access decides who may reach the rows of a dataset; pkg/web/auth's Access is one. Admit returns
// the problem to answer with when the caller may not, and sets the headers that go with its answer.
type Access interface {
	Admit(h http.Header, r *http.Request, ds *dataset.Dataset) (auth.Caller, *web.Problem)
}

// guarded is with for the routes that touch rows: the contract of a dataset is public, its data is
// not. The caller is checked before anything of the request is read.
func (s *Service) guarded(handle handler) http.HandlerFunc {
	return s.with(func(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
		if s.deps.Access != nil {
			start := s.deps.Now()
			caller, p := s.deps.Access.Admit(w.Header(), r, ep.ds)
			if p != nil {
				return p
			}
			var timing timings
			timing.add("auth", s.deps.Now().Sub(start))
			timing.set(w.Header())
			if caller.ID != "" {
				web.SetCaller(r.Context(), caller.ID)
			}
		}
		return handle(ep, w, r)
	})
}
