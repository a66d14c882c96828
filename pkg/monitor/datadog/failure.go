package datadog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// What an error shows of an answer.
const (
	maxMessages     = 20
	maxMessageRunes = 500
)

var (
	duplicateOf = regexp.MustCompile(`Duplicate of an existing monitor_id:\s*(\d+)`)
	htmlTitle   = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
)

// noAnswer is the error of a call that ended without an answer.
func (c *Client) noAnswer(ctx context.Context, k *call, err error) error {
	var outer *url.Error
	if errors.As(err, &outer) { // It repeats the method and shows the whole address.
		err = outer.Err
	}
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", c.budget)
	}
	e := &Error{Method: k.method, Path: k.path, Cause: c.scrubError(err)}
	switch {
	case k.once && k.uncertain:
		e.Kind = ErrAmbiguous
	case ctx.Err() != nil:
	default:
		e.Kind = ErrUnavailable
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		e.Cause = errors.Join(ctx.Err(), e.Cause)
	}
	if e.Cause != nil {
		e.Messages = append([]string{c.clean(e.Cause.Error())}, c.remarks(k, e.Kind)...)
	}
	return e
}

// refusal is the error of an answer that is not a success.
func (c *Client) refusal(ctx context.Context, k *call, response *http.Response, body []byte) error {
	status := response.StatusCode
	if ctx.Err() != nil && (unavailable(status) || status == http.StatusTooManyRequests) {
		return c.noAnswer(ctx, k, ctx.Err())
	}
	e := &Error{Method: k.method, Path: k.path, Status: status, Messages: c.messages(response.Header, body)}
	text := strings.Join(e.Messages, "\n")
	if m := duplicateOf.FindStringSubmatch(text); m != nil {
		e.Duplicate = m[1]
	}
	e.Kind = kindOf(k, status, text)
	if status < 400 {
		e.Messages = append(e.Messages, c.clean("it sends elsewhere: "+response.Header.Get("Location")))
	}
	e.Messages = append(e.Messages, c.remarks(k, e.Kind)...)
	return e
}

func kindOf(k *call, status int, text string) error {
	switch {
	case unavailable(status) && k.once:
		return ErrAmbiguous
	case unavailable(status), status == http.StatusTooManyRequests, status < 400, status == http.StatusProxyAuthRequired:
		return ErrUnavailable
	case strings.Contains(text, "is referenced in"), k.method == http.MethodDelete && strings.Contains(text, "defaultdict("):
		return ErrReferenced
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrDenied
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusConflict && k.method == http.MethodDelete:
		return ErrReferenced
	}
	return ErrInvalid
}

// unreadable is the error of a success whose body is not what it should be.
func (c *Client) unreadable(k *call, body []byte, err error) error {
	e := &Error{Method: k.method, Path: k.path, Status: http.StatusOK, Kind: ErrUnavailable, Cause: c.scrubError(err)}
	if k.once {
		e.Kind = ErrAmbiguous
	}
	what := "the answer is not what Datadog's API gives"
	if isHTML(nil, body) {
		what = "the answer is a page for people, not of Datadog's API: is " + c.site + " the right address?"
	}
	e.Messages = append([]string{what + ": " + c.clean(err.Error())}, c.remarks(k, e.Kind)...)
	return e
}

// remarks are what the user needs beside Datadog's own words.
func (c *Client) remarks(k *call, kind error) []string {
	var said []string
	if k.attempts > 1 && (kind == nil || errors.Is(kind, ErrUnavailable) || errors.Is(kind, ErrAmbiguous)) {
		said = append(said, fmt.Sprintf("gave up after %d attempts", k.attempts))
	}
	if !k.refused.IsZero() {
		said = append(said, c.closed())
	}
	if errors.Is(kind, ErrDenied) {
		said = append(said, c.denied(k))
	}
	if errors.Is(kind, ErrAmbiguous) {
		said = append(said, "it is not known whether it was made")
	}
	return said
}

// closed says what to look at when nothing listens where the requests go.
func (c *Client) closed() string {
	if c.site == c.base {
		return fmt.Sprintf("nothing listens at %s: check DD_URL, and that what it names runs; without DD_URL requests go to Datadog itself", c.base)
	}
	return fmt.Sprintf("the connection to %s is refused: check DD_SITE, HTTPS_PROXY and the firewall", c.base)
}

// denied names the variables that hold the keys, and the right that the call needs.
func (c *Client) denied(k *call) string {
	keys := "DD_API_KEY and DD_APP_KEY are"
	if c.bearer {
		keys = "DD_BEARER_TOKEN is"
	}
	hint := fmt.Sprintf("check that %s of %s (DD_SITE) and not revoked", keys, c.site)
	for _, area := range []struct{ path, right string }{
		{"/api/v1/monitor", "monitors"}, {"/api/v1/slo", "slos"}, {"/api/v1/dashboard", "dashboards"},
	} {
		if strings.Contains(k.path, area.path) {
			verb := "write"
			if k.method == http.MethodGet {
				verb = "read"
			}
			return fmt.Sprintf("%s, and that the right %s_%s was given", hint, area.right, verb)
		}
	}
	return hint
}

// messages finds what an answer says about its failure, in any of the shapes that are in use.
func (c *Client) messages(h http.Header, body []byte) []string {
	var shape struct {
		Errors, Error, Message json.RawMessage
	}
	var found []string
	if json.Unmarshal(body, &shape) == nil {
		for _, part := range []json.RawMessage{shape.Errors, shape.Error, shape.Message} {
			var value any
			if len(part) > 0 && json.Unmarshal(part, &value) == nil {
				found = append(found, texts("", value)...)
			}
		}
	}
	if len(found) == 0 {
		switch text := strings.TrimSpace(string(body)); {
		case isHTML(h, body):
			found = []string{"a page for people, not an answer of Datadog's API"}
			if m := htmlTitle.FindStringSubmatch(text); m != nil {
				found[0] += ": " + m[1]
			}
		case text != "":
			found = []string{text}
		}
	}
	found = found[:min(len(found), maxMessages)]
	for i := range found {
		found[i] = c.clean(found[i])
	}
	return found
}

// texts flattens lists, and maps from ids, of texts.
func texts(prefix string, value any) []string {
	switch v := value.(type) {
	case string:
		return []string{prefix + v}
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, texts(prefix, item)...)
		}
		return all
	case map[string]any:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, texts(prefix+key+": ", v[key])...)
		}
		return all
	}
	return nil
}

func isHTML(h http.Header, body []byte) bool {
	start := strings.ToLower(strings.TrimSpace(string(body[:min(len(body), 200)])))
	return strings.Contains(h.Get("Content-Type"), "text/html") || strings.HasPrefix(start, "<!doctype") || strings.HasPrefix(start, "<html")
}

// clean makes a text of others fit for a terminal and free of keys.
func (c *Client) clean(text string) string {
	text = c.scrub(text)
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(text); len(runes) > maxMessageRunes {
		return string(runes[:maxMessageRunes]) + "…"
	}
	return text
}

// scrub takes the keys out, which an answer might repeat.
func (c *Client) scrub(text string) string {
	for _, key := range c.keys {
		if key.IsSet() {
			text = strings.ReplaceAll(text, key.Reveal(), key.String())
		}
	}
	return text
}

// scrubError keeps an error as it is unless its text has a key.
func (c *Client) scrubError(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); c.scrub(text) != text {
		return errors.New(c.scrub(text))
	}
	return err
}
