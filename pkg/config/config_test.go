package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/config"
)

func TestResolvePrecedence(t *testing.T) {
	t.Parallel()
	file := config.File{Origin: "latam.yaml environments.prod", Entries: []config.Entry{
		{Key: "batch_rows", Value: uint64(200), Place: "latam.yaml:9:5"},
		{Key: "linger", Value: "3ms", Place: "latam.yaml:10:5"},
		{Key: "datasets", Value: []any{"a", "b"}, Place: "latam.yaml:11:5"},
		{Key: "someone_elses", Value: true, Place: "latam.yaml:12:5"},
	}}
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want []config.Setting
	}{
		{"defaults and file", nil, nil, []config.Setting{
			{"batch_rows", "200", "latam.yaml environments.prod"},
			{"datasets", "[a,b]", "latam.yaml environments.prod"},
			{"http", "127.0.0.1:8080", "default"},
			{"linger", "3ms", "latam.yaml environments.prod"},
		}},
		{"environment beats file", nil, map[string]string{"LATAM_BATCH_ROWS": "300", "LATAM_HTTP": ":1"}, []config.Setting{
			{"batch_rows", "300", "env LATAM_BATCH_ROWS"},
			{"datasets", "[a,b]", "latam.yaml environments.prod"},
			{"http", ":1", "env LATAM_HTTP"},
			{"linger", "3ms", "latam.yaml environments.prod"},
		}},
		{"flag beats all", []string{"--batch-rows=400", "--file=x"}, map[string]string{"LATAM_BATCH_ROWS": "300", "LATAM_FILE": "never"}, []config.Setting{
			{"batch_rows", "400", "flag"},
			{"datasets", "[a,b]", "latam.yaml environments.prod"},
			{"http", "127.0.0.1:8080", "default"},
			{"linger", "3ms", "latam.yaml environments.prod"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flags, values := newFlags()
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			got, err := config.Resolve(flags, lookup(tt.env), file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if values.file == "never" {
				t.Error("an invocation flag was read from the environment")
			}
		})
	}
}

func TestResolveNamesThePlaceOfABadValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		env   map[string]string
		file  []config.Entry
		place string
	}{
		{"environment", map[string]string{"LATAM_BATCH_ROWS": "many"}, nil, "LATAM_BATCH_ROWS"},
		{"file", nil, []config.Entry{{Key: "linger", Value: "soon", Place: "latam.yaml:3:9"}}, "latam.yaml:3:9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flags, _ := newFlags()
			_, err := config.Resolve(flags, lookup(tt.env), config.File{Entries: tt.file})
			var bad *config.ValueError
			if !errors.As(err, &bad) || bad.Place != tt.place {
				t.Errorf("got %v, want a ValueError at %s", err, tt.place)
			}
		})
	}
}

type values struct {
	rows     int
	linger   time.Duration
	http     string
	datasets []string
	file     string
}

func newFlags() (*pflag.FlagSet, *values) {
	var v values
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.IntVar(&v.rows, "batch-rows", 500, "")
	flags.DurationVar(&v.linger, "linger", 2*time.Millisecond, "")
	flags.StringVar(&v.http, "http", "127.0.0.1:8080", "")
	flags.StringSliceVar(&v.datasets, "datasets", nil, "")
	flags.StringVar(&v.file, "file", "", "")
	config.MarkInvocation(flags, "file")
	return flags, &v
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		value, ok := env[key]
		return value, ok
	}
}
