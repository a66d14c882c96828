package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// Problem is an error response (RFC 9457, application/problem+json). The writer fills in type,
// title, status, instance and the ids.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   Code   `json:"code"`
	// Detail says what is wrong with this request.
	Detail string `json:"detail,omitempty"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Errors are the single faults where there can be several.
	Errors []Fault `json:"errors,omitempty"`
	// Metadata is for programs; its keys are part of the code's promise.
	Metadata  map[string]any `json:"metadata,omitempty"`
	Instance  string         `json:"instance,omitempty"`
	RequestID string         `json:"request_id,omitempty"`
	TraceID   string         `json:"trace_id,omitempty"`

	// RetryAfter becomes the Retry-After header, in whole seconds and at least one.
	RetryAfter time.Duration `json:"-"`
	// Allow becomes the Allow header of a 405.
	Allow []string `json:"-"`
}

// Fault is one of several faults of a request.
type Fault struct {
	// Line is the line of the body, from 1.
	Line int `json:"line,omitempty"`
	// Parameter is the query parameter at fault.
	Parameter string `json:"parameter,omitempty"`
	// Field is the dataset's field at fault.
	Field  string `json:"field,omitempty"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// NewProblem makes a Problem without further members.
func NewProblem(code Code, detail, hint string) *Problem {
	return &Problem{Code: code, Detail: detail, Hint: hint}
}

// Error makes a Problem an error, for functions that return one of several kinds.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// typeBase is the page that explains the codes; its headings are the codes.
const typeBase = "https://github.com/latamctl/latamctl/blob/main/docs/errors.md#"

// ProblemType is the type member of a problem: the address of the page that explains its code.
func ProblemType(code Code) string { return typeBase + strings.ToLower(string(code)) }

// WriteProblem writes the response. A response that has begun already is aborted instead, because a
// client must not take half a body for a whole one.
func WriteProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	out := *p
	info, ok := LookupCode(string(p.Code))
	if !ok {
		info, _ = LookupCode(string(Internal))
		out.Code = Internal
	}
	out.Type, out.Title, out.Status = ProblemType(info.Code), info.Title, info.Status
	out.Instance = Quote(r.URL.Path)
	if x := exchangeOf(r.Context()); x != nil {
		if x.status != 0 {
			panic(http.ErrAbortHandler)
		}
		out.RequestID, x.code = x.id, out.Code
	}
	if sc := trace.SpanContextFromContext(r.Context()); sc.HasTraceID() {
		out.TraceID = sc.TraceID().String()
	}
	body, err := json.Marshal(&out)
	if err != nil {
		// Metadata is the only member that could fail, so the rest is still worth sending.
		out.Metadata = nil
		body, _ = json.Marshal(&out)
	}
	writeProblemBody(w, &out, body)
}

func writeProblemBody(w http.ResponseWriter, p *Problem, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(p.RetryAfter.Round(time.Second)/time.Second))))
	}
	if len(p.Allow) > 0 {
		h.Set("Allow", strings.Join(p.Allow, ", "))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// maxQuotedBytes is how much of a caller's value an answer or a log line repeats.
const maxQuotedBytes = 64

// Quote makes a value of the caller safe to repeat: valid UTF-8, control characters escaped, and
// cut to 64 bytes.
func Quote(s string) string {
	cut := ""
	if len(s) > maxQuotedBytes {
		n := maxQuotedBytes
		for n > maxQuotedBytes-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], "…"
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + cut
}
