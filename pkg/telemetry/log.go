package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Redacted stands where a secret would.
const Redacted = "[REDACTED]"

// Secret is a string that no formatting, log or encoding shows. Reveal is the only way out.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (Secret) String() string { return Redacted }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return Redacted }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText hides the secret from JSON, YAML and XML.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON hides the secret from JSON.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

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

const maxLogValueBytes = 2048

func redact(_ []string, a slog.Attr) slog.Attr {
	if slices.Contains(SecretKeys(), strings.ToLower(a.Key)) {
		return slog.String(a.Key, Redacted)
	}
	if a.Value.Kind() == slog.KindString && len(a.Value.String()) > maxLogValueBytes {
		return slog.String(a.Key, a.Value.String()[:maxLogValueBytes]+"…")
	}
	return a
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
