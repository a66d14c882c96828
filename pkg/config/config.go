// Package config resolves settings: flag > LATAM_* > the environment in latam.yaml > default.
// Flags are the one list of settings; keys and variables are derived from their names.
package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// File is the settings of one environment as latam.yaml has them.
type File struct {
	// Origin is what Setting.Origin shows, such as "latam.yaml environments.prod".
	Origin  string
	Entries []Entry
}

// Entry is one key with its value and the place to name in an error.
type Entry struct {
	Key   string
	Value any    // a scalar, a list, or a map for Pairs
	Place string // file:line:column
}

// Setting is a resolved setting.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// The origins that are not a place in a file.
const (
	OriginFlag    = "flag"
	OriginDefault = "default"
)

// EnvPrefix begins every variable that sets a setting.
const EnvPrefix = "LATAM_"

// invocation marks a flag that belongs to one call and is never read from the environment or a file.
const invocation = "latam.invocation"

// MarkInvocation keeps a flag from being a setting.
func MarkInvocation(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[invocation] = nil
	}
}

// IsSetting tells whether a flag is a setting.
func IsSetting(f *pflag.Flag) bool {
	_, marked := f.Annotations[invocation]
	return !marked && f.Name != "help"
}

// Key is the setting's name in a file.
func Key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// EnvName is the setting's variable.
func EnvName(flag string) string { return EnvPrefix + strings.ToUpper(Key(flag)) }

// ValueError says that a value from outside the command line does not fit its setting.
type ValueError struct {
	Place string // the variable, or file:line:column
	Key   string
	Err   error
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("%s: setting %s: %v", e.Place, e.Key, e.Err)
}

func (e *ValueError) Unwrap() error { return e.Err }

// Resolve gives every setting among the flags its value and returns them all in the flags' order.
// Entries of the file that match no flag are left alone: they belong to other commands.
func Resolve(flags *pflag.FlagSet, getenv func(string) (string, bool), file File) ([]Setting, error) {
	v := viper.New()
	entries := map[string]Entry{}
	values := map[string]any{}
	for _, e := range file.Entries {
		entries[strings.ToLower(e.Key)] = e
		values[e.Key] = e.Value
		switch value := e.Value.(type) {
		case []any:
			values[e.Key] = slices.Clone(value) // viper writes to the lists that it is given.
		case map[string]any:
			values[e.Key] = "" // viper would change the case of its keys, so that it is taken from the entry.
		}
	}
	if err := v.MergeConfigMap(values); err != nil {
		return nil, fmt.Errorf("read settings of %s: %w", file.Origin, err)
	}
	var settings []Setting
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed != nil || !IsSetting(f) {
			return
		}
		s, err := resolve(v, f, getenv, file.Origin, entries)
		if err != nil {
			failed = err
			return
		}
		settings = append(settings, s)
	})
	return settings, failed
}

// set replaces the value of a flag. Setting a list that was set before would add to it, and settings
// can be resolved more than once.
func set(value pflag.Value, text string) error {
	switch value := value.(type) {
	case pflag.SliceValue:
		if err := value.Replace(nil); err != nil {
			return err
		}
	case *Pairs:
		value.clear()
	}
	return value.Set(text)
}

// setMap gives a flag the map that a file has for it.
func setMap(value pflag.Value, entries map[string]any) error {
	pairs, ok := value.(*Pairs)
	if !ok {
		return fmt.Errorf("it is a single value of type %s, got a map", value.Type())
	}
	return pairs.setMap(entries)
}

func resolve(v *viper.Viper, f *pflag.Flag, getenv func(string) (string, bool), origin string, entries map[string]Entry) (Setting, error) {
	key := Key(f.Name)
	s := Setting{Key: key, Origin: OriginDefault}
	place := ""
	switch env, ok := getenv(EnvName(f.Name)); {
	case f.Changed:
		s.Origin = OriginFlag
	case ok && env != "":
		v.Set(key, env)
		s.Origin, place = "env "+EnvName(f.Name), EnvName(f.Name)
	case v.InConfig(key):
		s.Origin, place = origin, entries[key].Place
	}
	fromFile, isMap := entries[key].Value.(map[string]any)
	switch {
	case isMap && place != "" && place == entries[key].Place:
		if err := setMap(f.Value, fromFile); err != nil {
			return s, &ValueError{Place: place, Key: key, Err: err}
		}
	case place != "":
		text := strings.Join(v.GetStringSlice(key), ",")
		if _, list := v.Get(key).([]any); !list {
			text = v.GetString(key)
		}
		if err := set(f.Value, text); err != nil {
			return s, &ValueError{Place: place, Key: key, Err: fmt.Errorf("%q: %w", text, err)}
		}
	}
	s.Value = f.Value.String()
	return s, nil
}
