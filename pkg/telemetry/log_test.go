package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

const hidden = "s3cret-value"

// TestSecretNeverShows prints a secret in every way that the standard library has.
func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	secret := NewSecret(hidden)
	type inner struct{ unexported Secret }
	type outer struct {
		Key     Secret
		Pointer *Secret
		List    []Secret
		Map     map[string]Secret
		Any     any
		Inner   inner
	}
	values := map[string]any{
		"value": secret, "pointer": &secret, "list": []Secret{secret}, "map": map[string]Secret{"k": secret},
		"unexported field": inner{secret}, "pointer to unexported field": &inner{secret},
		"struct": outer{secret, &secret, []Secret{secret}, map[string]Secret{"k": secret}, secret, inner{secret}},
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%f", "%c", "%10s", "%T"} {
			wantHidden(t, name+" with "+verb, fmt.Sprintf(verb, v))
		}
		wantHidden(t, name+" printed", fmt.Sprint(v)+fmt.Sprintln(v))
		wantHidden(t, name+" in an error", fmt.Errorf("call with %v: %w", v, errors.New("x")).Error())
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			log := NewLogger(&out, LogOptions{Format: format})
			log.Info("message", "value", v, slog.Group("group", slog.Any("v", v)))
			log.With("bound", v).Info("message")
			wantHidden(t, name+" in a "+format+" log", out.String())
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantHidden(t, name+" in JSON", string(text))
	}
	type document struct{ Key Secret }
	text, err := xml.Marshal(document{secret})
	if err != nil {
		t.Fatal(err)
	}
	wantHidden(t, "XML", string(text))
	if text, err = json.Marshal(map[string]any{"key": secret}); err != nil || string(text) != `{"key":"[REDACTED]"}` {
		t.Errorf("JSON %s, %v", text, err)
	}
	if got := fmt.Sprintf("%v %s %#v", secret, secret, secret); got != "[REDACTED] [REDACTED] [REDACTED]" {
		t.Errorf("printed %s", got)
	}
}

// wantHidden also knows the secret in hexadecimal and quoted.
func wantHidden(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden), fmt.Sprintf("% x", hidden)} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", what, text)
		}
	}
}

func TestSecretReveal(t *testing.T) {
	t.Parallel()
	if got := NewSecret(hidden).Reveal(); got != hidden {
		t.Errorf("reveal: %q", got)
	}
	var none Secret
	if none.Reveal() != "" || none.IsSet() || !NewSecret("x").IsSet() || NewSecret("").IsSet() {
		t.Error("an unset secret must be empty, and only that")
	}
	if got := fmt.Sprint(none); got != Redacted {
		t.Errorf("an unset secret prints as %q: even that must not be told", got)
	}
	var read Secret
	if err := json.Unmarshal([]byte(`"`+hidden+`"`), &read); err != nil || read.Reveal() != hidden {
		t.Errorf("read from JSON: %q, %v", read.Reveal(), err)
	}
}

func TestRedaction(t *testing.T) {
	t.Parallel()
	for _, key := range append(SecretKeys(), "Authorization", "TOKEN", "Api_Key") {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			log := NewLogger(&out, LogOptions{Format: format})
			log.Info("call", key, hidden, "other", "shown")
			log.Info("call", slog.Group("request", slog.String(key, hidden)))
			log.With(key, hidden).WithGroup("g").Info("call", key, []byte(hidden))
			log.Info("call", slog.Any(key, map[string]string{"x": hidden}))
			wantHidden(t, "key "+key+" in a "+format+" log", out.String())
			if !strings.Contains(out.String(), "shown") || strings.Count(out.String(), Redacted) < 4 {
				t.Errorf("key %s: %s", key, out.String())
			}
		}
	}
}

func TestLongValuesAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ñ", 50_000)
	for name, v := range map[string]any{"text": long, "error": errors.New(long), "bytes": []byte(long), "wrapped": fmt.Errorf("x: %w", errors.New(long))} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			NewLogger(&out, LogOptions{Format: format}).Info("message", "value", v, "after", "shown")
			if n := out.Len(); n > 2*maxLogValueBytes || n < maxLogValueBytes/2 || !strings.Contains(out.String(), "shown") {
				t.Errorf("%s in a %s log: %d bytes", name, format, n)
			}
			if !utf8.Valid(out.Bytes()) || strings.Contains(out.String(), `\ufffd`) || strings.ContainsRune(out.String(), '\ufffd') {
				t.Errorf("%s in a %s log: a character was cut in two", name, format)
			}
		}
	}
	for key, limit := range map[string]int{"value": 256, "path": 256, "error": 2048, "stack": 2048} {
		exact := strings.Repeat("x", limit)
		var out bytes.Buffer
		log := NewLogger(&out, LogOptions{})
		log.Info("message", key, exact)
		if !strings.Contains(out.String(), `"`+exact+`"`) {
			t.Errorf("%s: a value of just the limit is not whole", key)
		}
		out.Reset()
		log.Info("message", key, errors.New(exact+"y"))
		if !strings.Contains(out.String(), `"`+exact+`…"`) {
			t.Errorf("%s: a value beyond the limit is not cut there: %s", key, out.String())
		}
	}
}

func TestTraceID(t *testing.T) {
	t.Parallel()
	id := trace.TraceID{1, 2, 3, 15: 4}
	traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
	var out bytes.Buffer
	log := NewLogger(&out, LogOptions{Format: "json"})
	for _, log := range []*slog.Logger{log, log.With("a", 1)} {
		out.Reset()
		log.InfoContext(traced, "message", "k", "v")
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["trace_id"] != id.String() || line["k"] != "v" {
			t.Errorf("line %s, %v; want trace_id %s", out.String(), err, id)
		}
	}
	out.Reset()
	log.InfoContext(context.Background(), "message")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("trace_id without a trace: %s", out.String())
	}
}

func TestLogFormat(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		opts LogOptions
		json bool
	}{
		{LogOptions{}, true}, {LogOptions{Terminal: true}, false},
		{LogOptions{Format: "json", Terminal: true}, true}, {LogOptions{Format: "text"}, false},
	} {
		var out bytes.Buffer
		log := NewLogger(&out, tc.opts)
		log.Debug("hidden by the level")
		log.Info("message")
		if isJSON := json.Valid(out.Bytes()); isJSON != tc.json || strings.Contains(out.String(), "hidden") {
			t.Errorf("%+v: %s", tc.opts, out.String())
		}
	}
	var out bytes.Buffer
	NewLogger(&out, LogOptions{Level: slog.LevelDebug}).Debug("message")
	if out.Len() == 0 {
		t.Error("the level is not taken")
	}
}
