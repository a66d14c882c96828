package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Redacted stands where a secret would.
const Redacted = "[REDACTED]"

// Secret is a text that no formatting, log or encoding shows. Reveal is the only way out. The text
// is behind a pointer, because fmt prints the unexported fields of a struct without asking them.
type Secret struct{ text *string }

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the secret itself, empty when there is none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet tells whether there is a secret.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

// String hides the secret.
func (Secret) String() string { return Redacted }

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText hides the secret from JSON, YAML and XML.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText reads a secret from a settings file.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// LogOptions say how logs look.
type LogOptions struct {
	// Format is text, json, or empty for text on a terminal and JSON otherwise.
	Format string
	// Terminal says that the writer is a terminal.
	Terminal bool
	// Level is the lowest level shown.
	Level slog.Leveler
}

// NewLogger returns a logger that masks the values of keys that name secrets, cuts long strings
// and adds the trace of the context.
func NewLogger(w io.Writer, opts LogOptions) *slog.Logger {
	handlerOpts := &slog.HandlerOptions{Level: opts.Level, ReplaceAttr: redact}
	if opts.Format == "json" || opts.Format == "" && !opts.Terminal {
		return slog.New(traced{slog.NewJSONHandler(w, handlerOpts)})
	}
	return slog.New(traced{slog.NewTextHandler(w, handlerOpts)})
}

// SecretKeys are the log and setting keys whose values are masked wherever they appear.
func SecretKeys() []string {
	return []string{"api_key", "app_key", "token", "bearer_token", "authorization", "password", "secret", "cursor_key"}
}

// What a value may have in a log line. Causes and stacks need room; everything else may be a
// caller's, who would choose how much it takes.
const (
	maxLogValueBytes = 256
	maxLogCauseBytes = 2048
)

// limitOf is the most bytes of the value of a key.
func limitOf(key string) int {
	if key == "error" || key == "stack" {
		return maxLogCauseBytes
	}
	return maxLogValueBytes
}

func redact(_ []string, a slog.Attr) slog.Attr {
	if slices.Contains(SecretKeys(), strings.ToLower(a.Key)) {
		return slog.String(a.Key, Redacted)
	}
	text := ""
	switch a.Value.Kind() {
	case slog.KindString:
		text = a.Value.String()
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			text = v.Error()
		case []byte:
			text = string(v)
		}
	}
	limit := limitOf(a.Key)
	if len(text) <= limit {
		return a
	}
	return slog.String(a.Key, strings.ToValidUTF8(text[:limit], "")+"…")
}

// traced adds trace_id to records logged with a context that carries a trace.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }
