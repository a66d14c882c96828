package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"cloud.google.com/go/auth"
	"google.golang.org/api/googleapi"
)

// retry runs an operation until it is decided: done, refused, or out of attempts or time. The
// operation learns whether an attempt came before this one, whose outcome nobody knows.
func (g *gcs) retry(ctx context.Context, doing string, do func(ctx context.Context, again bool) error) error {
	bounded, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	delay := g.opts.RetryDelay
	for attempt := 1; ; attempt++ {
		err := do(bounded, attempt > 1)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil: // The caller has given up.
			return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
		case errors.Is(err, ErrDenied), errors.Is(err, ErrNoBucket), errors.Is(err, ErrUnavailable): // Decided within.
			return err
		case !transient(err):
			return classify(doing, err)
		case attempt == g.opts.Attempts || bounded.Err() != nil:
			return fmt.Errorf("%s: %w: %d attempts, the last: %w", doing, ErrUnavailable, attempt, brief(err))
		}
		timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
		select {
		case <-timer.C:
		case <-bounded.Done():
			timer.Stop()
		}
		delay = min(2*delay, 5*time.Second)
	}
}

// statusOf is the HTTP status that an error stands for, 0 when it is none.
func statusOf(err error) int {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}

// transient tells whether the same request may succeed a moment later.
func transient(err error) bool {
	if noToken(err) {
		return false
	}
	var bad *unusable
	if errors.As(err, &bad) {
		return false
	}
	switch status := statusOf(err); {
	case status == 0: // No answer, or one that ended too early.
		return true
	default:
		return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
	}
}

// noToken tells whether there are no credentials to ask with: those at hand are refused.
func noToken(err error) bool {
	var denied *auth.Error
	if errors.As(err, &denied) {
		return !denied.Temporary()
	}
	return err != nil && statusOf(err) == 0 && refusedToken.MatchString(err.Error())
}

// refusedToken is in the errors of exchanged and impersonated tokens, which have no type.
var refusedToken = regexp.MustCompile(`: status code 40[0134]\b`)

// unusable is an answer that is larger than allowed, or not one of the API.
type unusable struct{ reason string }

func (e *unusable) Error() string { return e.reason }

// classify gives an error the kind that callers tell apart.
func classify(doing string, err error) error {
	status := statusOf(err)
	switch {
	case noToken(err), status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%s: %w: %w", doing, ErrDenied, brief(err))
	case status == http.StatusNotFound && strings.Contains(err.Error(), "bucket does not exist"):
		return fmt.Errorf("%s: %w", doing, ErrNoBucket)
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", doing, ErrNotExist)
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", doing, ErrConflict)
	default:
		return fmt.Errorf("%s: %w", doing, brief(err))
	}
}

// isPlain tells whether an answer is a sentence, not a page for a browser.
func isPlain(body string) bool {
	return len(body) < 1000 && !strings.ContainsFunc(body, func(r rune) bool { return r == '<' || r == '{' || r != '\n' && !unicode.IsPrint(r) })
}

// brief shortens an answer of the API to its message.
func brief(err error) error {
	var api *googleapi.Error
	if errors.As(err, &api) {
		message := api.Message
		if message == "" { // The client leaves the answer to a download unread.
			var answer struct{ Error struct{ Message string } }
			if json.Unmarshal([]byte(api.Body), &answer) == nil {
				message = answer.Error.Message
			} else if isPlain(api.Body) {
				message = strings.TrimSpace(api.Body)
			}
		}
		if message == "" {
			message = http.StatusText(api.Code)
		}
		return fmt.Errorf("%d %.300s", api.Code, message)
	}
	return err
}
