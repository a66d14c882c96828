package terraform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// ending is how a command ended, besides its diagnostics.
type ending struct {
	code        int
	signal      string
	interrupted bool
	plain       []string
}

// fill sets what follows from the output and the end of the program.
func (f *Failure) fill(s *stream, end ending) {
	errs := s.errors()
	if len(errs) == 0 && f.Cause == nil {
		errs = plainDiagnostics(end)
	}
	f.Diagnostics = slices.Clone(errs)
	for _, d := range s.Diagnostics {
		if d.Severity != "error" {
			f.Diagnostics = append(f.Diagnostics, d)
		}
	}
	f.Lock = findLock(errs)
	f.Kind = kindOf(errs, f.Lock, end)
	if f.wantsProviders() && f.Kind != Interrupted {
		f.Kind = NoProviders
	}
	if f.Kind == Killed {
		f.Working = slices.Clone(s.working)
	}
}

// plainDiagnostics makes an error of what a program printed that is no event: commands without a
// stream, flags that are not known, and crashes.
func plainDiagnostics(end ending) []Diagnostic {
	text := strings.TrimSpace(strings.Join(end.plain, "\n"))
	if text == "" {
		return nil
	}
	// terraform draws a box around an error on a terminal, and says "Error: " before its summary.
	text = strings.NewReplacer("│ ", "", "│", "", "╷", "", "╵", "").Replace(text)
	if _, after, found := strings.Cut(text, "Error: "); found {
		text = after
	}
	summary, detail, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return []Diagnostic{{Severity: "error", Summary: summary, Detail: strings.TrimSpace(detail)}}
}

// kindOf sorts a failure. One that has several reasons is transient only when all of them are.
func kindOf(errs []Diagnostic, lock *Lock, end ending) Kind {
	switch {
	case lock != nil:
		return Locked
	case slices.ContainsFunc(errs, isStale):
		return Stale
	case end.interrupted:
		return Interrupted
	case len(errs) == 0 && end.code > 0:
		return Failed
	case len(errs) == 0, end.signal != "":
		return Killed
	}
	kind := Transient
	for _, d := range errs {
		if k := kindOfDiagnostic(d); k != Transient {
			kind = k
			break
		}
	}
	return kind
}

func isStale(d Diagnostic) bool {
	return strings.HasPrefix(d.Summary, "Saved plan is stale") || strings.HasPrefix(d.Summary, "Saved plan does not match")
}

// The patterns are tried in this order, on the summary and the detail of a diagnostic. The words
// are those of Google's API errors, of Go's network errors, and of terraform. They are compiled at the
// first failure, because this program starts once more for every terraform.
var (
	// A limit per minute passes; a limit of a project's CPUs does not, and has a 403 without these words.
	transientText = pattern(`(?i)\berror:? (code )?(429|500|502|503|504)\b` +
		`|\b(429 too many requests|500 internal server error|502 bad gateway|503 service unavailable|504 gateway time-?out)\b` +
		`|backendError|rateLimitExceeded|quota exceeded for quota metric|RESOURCE_EXHAUSTED` +
		`|code = (unavailable|aborted|resourceexhausted|deadlineexceeded|internal)\b` +
		`|tls handshake timeout|connection reset by peer|connection refused|broken pipe|i/o timeout|unexpected EOF|: EOF\b` +
		`|no such host|temporary failure in name resolution|server misbehaving|network is unreachable|no route to host` +
		`|http2: (server sent GOAWAY|client connection lost)|stream error: stream ID|client\.timeout exceeded|context deadline exceeded` +
		`|API has not been used in project|SERVICE_DISABLED|accessNotConfigured` +
		`|(service ?account|identity ?pool|principal)\b.{0,200}? does not exist` +
		`|concurrent policy changes|error:? 409\b.{0,300}(concurrent|aborted|try again|retry)` +
		`|running incompatible operation|resourceNotReady|is not ready\b`)
	deniedText = pattern(`(?i)\berror:? (code )?(401|403)\b|permission_?denied|unauthenticated|\bforbidden\b` +
		`|invalid_grant|invalid_rapt|could not find default credentials|application default credentials|oauth2: cannot fetch token|impersonate`)
	invalidText = pattern(`(?i)\berror:? (code )?400\b|code = InvalidArgument`)
	// Summaries of terraform's own checks of a configuration.
	invalidSummary = pattern(`^(Unsupported |Missing |Reference to undeclared |Invalid |No value for required variable|Duplicate ` +
		`|Incorrect |Argument or block definition required|Value for undeclared variable|Insufficient |Too many |Cycle|Variables not allowed` +
		`|Unclosed |Error in function call|Call to unknown function|Inconsistent |Extra(neous)? |Failed to read module|Module not (found|installed)|Unreadable |Backend configuration changed)`)
)

func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

func kindOfDiagnostic(d Diagnostic) Kind {
	text := d.Summary + "\n" + d.Detail
	switch {
	case strings.HasPrefix(d.Summary, "Instance cannot be destroyed"):
		return Failed
	case transientText().MatchString(text):
		return Transient
	case deniedText().MatchString(text):
		return Denied
	case invalidText().MatchString(text), invalidSummary().MatchString(d.Summary):
		return Invalid
	}
	return Failed
}

// wantsInit tells whether terraform says that the folder was not prepared by init, or no longer is.
func (f *Failure) wantsInit() bool {
	return slices.ContainsFunc(f.Diagnostics, func(d Diagnostic) bool {
		if d.Severity != "error" {
			return false
		}
		switch d.Summary {
		case "Required plugins are not installed",
			"Inconsistent dependency lock file", "Module not installed", "Missing required provider":
			return true
		}
		return strings.HasPrefix(d.Summary, "Backend initialization required")
	})
}

// findLock reads who holds the lock from terraform's text. A lock that could not be taken for
// another reason, such as a missing permission, has no holder.
func findLock(errs []Diagnostic) *Lock {
	for _, d := range errs {
		if !strings.Contains(d.Summary+d.Detail, "Error acquiring the state lock") && !strings.HasPrefix(d.Summary, "Error acquiring the state lock") {
			continue
		}
		if lock, ok := parseLock(d.Detail); ok {
			return &lock
		}
	}
	return nil
}

var lockField = regexp.MustCompile(`(?m)^\s*(ID|Path|Operation|Who|Version|Created):[ \t]*(.*?)\s*$`)

// parseLock reads the block "Lock Info" of an error.
func parseLock(text string) (Lock, bool) {
	_, block, found := strings.Cut(text, "Lock Info:")
	if !found {
		return Lock{}, false
	}
	var l Lock
	for _, m := range lockField.FindAllStringSubmatch(block, -1) {
		switch m[1] {
		case "ID":
			l.ID = m[2]
		case "Path":
			l.Path = m[2]
		case "Operation":
			l.Operation = m[2]
		case "Who":
			l.Who = m[2]
		case "Version":
			l.Version = m[2]
		case "Created": // Go's text form of a time; one that it is not stays zero.
			l.Created, _ = time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", m[2])
		}
	}
	return l, l.ID != ""
}

// KindOf returns the kind of a Failure that an error holds, or Failed.
func KindOf(err error) Kind {
	var f *Failure
	if errors.As(err, &f) {
		return f.Kind
	}
	return Failed
}

// Unwrap returns the cause, such as proc.ErrInterrupted.
func (f *Failure) Unwrap() error { return f.Cause }

// maxDetail is how much of a diagnostic's detail an error shows, in bytes.
const maxDetail = 300

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of stack %s: %s", f.Command, f.Stack, f.reason())
	if f.ErroredState != "" {
		fmt.Fprintf(&b, "; the state that could not be saved is in %s", f.ErroredState)
	}
	if f.Output != "" {
		fmt.Fprintf(&b, "; all output is in %s", f.Output)
	}
	return b.String()
}

func (f *Failure) reason() string {
	switch {
	case f.Lock != nil:
		since := ""
		if !f.Lock.Created.IsZero() {
			since = " since " + f.Lock.Created.UTC().Format(time.RFC3339)
		}
		return fmt.Sprintf("the state is locked by %s%s (%s, lock %s)", f.Lock.Who, since, f.Lock.Operation, f.Lock.ID)
	case f.Kind == Interrupted && f.Cause != nil:
		return f.Cause.Error()
	case f.Kind == NoProviders:
		return "its providers cannot be had: " + f.Diagnostics[0].withoutSummary()
	case len(f.Diagnostics) > 0 && f.Diagnostics[0].Severity == "error":
		return f.Diagnostics[0].String()
	case f.Cause != nil:
		return f.Cause.Error()
	case f.Kind == Killed:
		return f.killed()
	}
	return string(f.Kind)
}

// withoutSummary is the detail alone, where there is one, and without the advice after it.
func (d Diagnostic) withoutSummary() string {
	detail, _, _ := strings.Cut(d.Detail, "To see which modules")
	if detail = strings.Join(strings.Fields(detail), " "); detail == "" {
		return d.String()
	}
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	return detail
}

// killed says what is known of an end that terraform could not tell of.
func (f *Failure) killed() string {
	const shown = 5
	switch n := len(f.Working); {
	case n == 0:
		return "terraform was killed; its lock may be left"
	case n > shown:
		return fmt.Sprintf("terraform was killed while it changed %s and %d more: what it was creating may exist without being in the state, and the lock may be left", strings.Join(f.Working[:shown], ", "), n-shown)
	}
	return fmt.Sprintf("terraform was killed while it changed %s: what it was creating may exist without being in the state, and the lock may be left", strings.Join(f.Working, ", "))
}

// String is the diagnostic on one line.
func (d Diagnostic) String() string {
	text := d.Summary
	if detail := strings.Join(strings.Fields(d.Detail), " "); detail != "" {
		if len(detail) > maxDetail {
			detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
		}
		text += ": " + detail
	}
	switch {
	case d.Address != "":
		return fmt.Sprintf("%s (%s)", text, d.Address)
	case d.File != "":
		return fmt.Sprintf("%s (%s:%d)", text, d.File, d.Line)
	}
	return text
}
