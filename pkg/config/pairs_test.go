package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/config"
)

func TestPairs(t *testing.T) {
	t.Parallel()
	file := func(value any) []config.Entry {
		return []config.Entry{{Key: "notify", Value: value, Place: "latam.yaml:9:5"}}
	}
	for _, tt := range []struct {
		name   string
		args   []string
		env    string
		file   []config.Entry
		want   config.Pairs
		text   string
		origin string
		fault  string
	}{
		{"nothing", nil, "", nil, nil, "", "default", ""},
		{"flags", []string{"--notify=page=@a", "--notify", "chat=@b,chat=@mail@example.com"}, "page=@never", file(map[string]any{"page": "@never"}),
			config.Pairs{"page": {"@a"}, "chat": {"@b", "@mail@example.com"}}, "chat=@b,chat=@mail@example.com,page=@a", "flag", ""},
		{"variable", nil, "page=@workflow-x(k=v), chat = @b", file(map[string]any{"page": "@never"}),
			config.Pairs{"page": {"@workflow-x(k=v)"}, "chat": {"@b"}}, "chat=@b,page=@workflow-x(k=v)", "env LATAM_NOTIFY", ""},
		{"file", nil, "", file(map[string]any{"page": "@a", "Chat_Room": []any{"@b", "@c"}}),
			config.Pairs{"page": {"@a"}, "Chat_Room": {"@b", "@c"}}, "Chat_Room=@b,Chat_Room=@c,page=@a", "latam.yaml environments.prod", ""},
		{"empty map", nil, "", file(map[string]any{}), nil, "", "latam.yaml environments.prod", ""},
		{"list in the file", nil, "", file([]any{"page=@a", "page=@b"}), config.Pairs{"page": {"@a", "@b"}}, "page=@a,page=@b", "latam.yaml environments.prod", ""},
		{"no value", nil, "page", nil, nil, "", "", `LATAM_NOTIFY: setting notify: "page": "page" is not NAME=VALUE`},
		{"number", nil, "", file(map[string]any{"page": int64(7)}), nil, "", "", "latam.yaml:9:5: setting notify: page must be a text or a list of texts, got 7"},
		{"nested", nil, "", file(map[string]any{"page": []any{map[string]any{}}}), nil, "", "", "page must be a text or a list of texts"},
		{"comma", nil, "", file(map[string]any{"page": "@a,@b"}), nil, "", "", `"@b" is not NAME=VALUE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got config.Pairs
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			flags.Var(&got, "notify", "")
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			for range 2 { // Settings can be resolved more than once.
				settings, err := config.Resolve(flags, lookup(map[string]string{"LATAM_NOTIFY": tt.env}), config.File{Origin: "latam.yaml environments.prod", Entries: tt.file})
				var bad *config.ValueError
				if tt.fault != "" {
					if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.fault) {
						t.Errorf("got %v, want %s", err, tt.fault)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff([]config.Setting{{Key: "notify", Value: tt.text, Origin: tt.origin}}, settings); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestAMapIsNoScalar(t *testing.T) {
	t.Parallel()
	flags, _ := newFlags()
	_, err := config.Resolve(flags, lookup(nil), config.File{Entries: []config.Entry{{Key: "http", Value: map[string]any{"a": "b"}, Place: "latam.yaml:3:9"}}})
	if err == nil || !strings.Contains(err.Error(), "latam.yaml:3:9: setting http: it is a single value of type string, got a map") {
		t.Errorf("got %v", err)
	}
}
