package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/stack/state"
)

// memory is a bucket without a network, for tests with a clock of their own.
type memory struct {
	mu       sync.Mutex
	objects  map[string]string
	versions map[string]int
	last     int
	fail     error // every request answers with it
	lose     int   // so many writes are done and answered with fail
}

func newMemory() *memory {
	return &memory{objects: map[string]string{}, versions: map[string]int{}, fail: nil}
}

func (m *memory) current(key string) bucket.Generation {
	if _, ok := m.objects[key]; !ok {
		return ""
	}
	return bucket.Generation(strconv.Itoa(m.versions[key]))
}

func (m *memory) Read(_ context.Context, key string) ([]byte, bucket.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil && m.lose == 0 {
		return nil, "", m.fail
	}
	if m.current(key) == "" {
		return nil, "", bucket.ErrNotExist
	}
	return []byte(m.objects[key]), m.current(key), nil
}

func (m *memory) Write(_ context.Context, key string, data []byte, version bucket.Generation) (bucket.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil && m.lose == 0 {
		return "", m.fail
	}
	if version != bucket.Any && version != m.current(key) {
		return "", bucket.ErrConflict
	}
	m.last++
	m.objects[key], m.versions[key] = string(data), m.last
	if m.lose > 0 {
		m.lose--
		return "", bucket.ErrUnavailable
	}
	return m.current(key), nil
}

func (m *memory) Delete(_ context.Context, key string, version bucket.Generation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current(key) == "" {
		return nil
	}
	if version != bucket.Any && version != m.current(key) {
		return bucket.ErrConflict
	}
	delete(m.objects, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := slices.Sorted(maps.Keys(m.objects))
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) }), nil
}

func (m *memory) URL() string                             { return "memory" }
func (m *memory) Backend(string) (string, map[string]any) { return "memory", nil }
func (m *memory) StateKey(prefix string) string           { return prefix + "/default.tfstate" }
func (m *memory) LockKey(prefix string) string            { return prefix + "/default.tflock" }

func (m *memory) put(key, data string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	m.objects[key], m.versions[key] = data, m.last
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

const sample = `{"version":4,"terraform_version":"1.11.4","serial":7,"lineage":"abc","outputs":{"b":{"value":[1,2],"type":["list","number"]},"a":{"value":"x","type":"string","sensitive":true}},
"resources":[
 {"mode":"data","type":"google_project","name":"p","instances":[{}]},
 {"module":"module.m[\"k\"].module.n","mode":"managed","type":"t","name":"r","provider":"p","instances":[{"index_key":"a\"${b}\n"},{"index_key":"b","deposed":"00ff"}]},
 {"mode":"managed","type":"t","name":"c","instances":[{"index_key":1},{"index_key":0}]},
 {"mode":"managed","type":"t","name":"s","instances":[{"index_key":null,"schema_version":3}]},
 {"mode":"managed","type":"t","name":"gone","instances":[]}],"check_results":null,"new_in_1_20":{}}`

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := state.Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	if s.Serial != 7 || s.Lineage != "abc" || s.Terraform != "1.11.4" || !s.Applied() {
		t.Errorf("%+v", s)
	}
	var got []string
	for _, r := range s.Resources {
		got = append(got, r.Address+" "+r.Type+" "+r.Deposed)
	}
	want := []string{`module.m["k"].module.n.t.r["a\"$${b}\n"] t `, `module.m["k"].module.n.t.r["b"] t 00ff`, "t.c[0] t ", "t.c[1] t ", "t.s t "}
	if !slices.Equal(got, want) {
		t.Errorf("resources %q, want %q", got, want)
	}
	if a, ok := s.Output("a"); !ok || !a.Sensitive || string(a.Value) != `"x"` || s.Outputs[1].Name != "b" {
		t.Errorf("outputs %+v", s.Outputs)
	}
	for text, says := range map[string]string{
		`{"version":3}`:           "its format is 3",
		`{"version":5}`:           "its format is 5",
		`{}`:                      "no version",
		`[`:                       "not the JSON of a state",
		`{"encrypted_data":"xx"}`: "encrypted by OpenTofu",
		`{"version":4,"resources":[{"mode":"managed","type":"t","name":"n","instances":[{"index_key":{}}]}]}`:  "the key of t.n",
		`{"version":4,"resources":[{"mode":"managed","type":"t","name":"n","instances":[{"index_key":1.5}]}]}`: "no whole number",
	} {
		if _, err := state.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
	for _, nothing := range []string{"", "\n"} {
		if s, err := state.Parse([]byte(nothing)); err != nil || s.Applied() {
			t.Errorf("%q: %+v, %v", nothing, s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"version":4,"resources":[{"mode":"managed","instances":[{"index_key":"\u0000"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := state.Parse(data)
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(s.Resources, func(a, b state.Resource) int { return strings.Compare(a.Address, b.Address) }) {
			t.Errorf("resources are not in order: %+v", s.Resources)
		}
		for _, r := range s.Resources {
			if strings.ContainsAny(strings.TrimPrefix(r.Address[strings.LastIndexByte(r.Address, '[')+1:], r.Type), "\n") && !strings.Contains(r.Type, "\n") && strings.HasSuffix(r.Address, `"]`) {
				t.Errorf("a key has a line end: %q", r.Address)
			}
		}
		for _, o := range s.Outputs {
			if !json.Valid(o.Value) {
				t.Errorf("output %q is not JSON: %q", o.Name, o.Value)
			}
		}
	})
}

func TestReadSaysWhat(t *testing.T) {
	t.Parallel()
	m := newMemory()
	states := state.New(m, "prod")
	m.put("prod/network/default.tfstate", "{")
	if _, err := states.Read(t.Context(), "network"); err == nil || !strings.Contains(err.Error(), "read the state of stack network at memory/prod/network/default.tfstate") {
		t.Errorf("a broken state: %v", err)
	}
	m.setFail(bucket.ErrDenied)
	if _, err := states.Outputs(t.Context(), "network"); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("a state that may not be read: %v", err)
	}
	none := openBucket(t, filepath.Join(t.TempDir(), "none"), "")
	if s, err := state.New(none, "prod").Read(t.Context(), "network"); err != nil || s.Applied() {
		t.Errorf("no bucket: %+v, %v", s, err)
	}
}

func TestUnlockKeepsANewLock(t *testing.T) {
	t.Parallel()
	m := newMemory()
	states := state.New(m, "prod")
	const key = "prod/network/default.tflock"
	if _, err := states.Unlock(t.Context(), "network", "1", nil); !errors.Is(err, state.ErrNotLocked) {
		t.Errorf("no lock: %v", err)
	}
	m.put(key, `{"ID":"uuid","Operation":"OperationTypePlan","Who":"ana@laptop","Created":"2026-01-02T03:04:05.6Z"}`)
	lock, err := states.Lock(t.Context(), "network")
	if err != nil || lock.ID != "1" || lock.Written != "uuid" || lock.Who != "ana@laptop" || lock.Age(lock.Created.Add(time.Hour)) != time.Hour {
		t.Fatalf("%+v, %v", lock, err)
	}
	// While we ask whether the program lives, it ends and another one takes the lock.
	swap := func(context.Context, state.Lock) (string, error) {
		m.put(key, `{"ID":"other","Who":"ben@laptop"}`)
		return "", nil
	}
	if _, err := states.Unlock(t.Context(), "network", "uuid", swap); !errors.Is(err, state.ErrOtherLock) {
		t.Errorf("a lock that changed hands: %v", err)
	}
	if lock, err := states.Lock(t.Context(), "network"); err != nil || lock == nil || lock.Written != "other" {
		t.Errorf("the new lock is %+v, %v", lock, err)
	}
	unknown := func(context.Context, state.Lock) (string, error) { return "", errors.New("no records") }
	if _, err := states.Unlock(t.Context(), "network", "other", unknown); err == nil || !strings.Contains(err.Error(), "no records") {
		t.Errorf("without knowing whether it lives: %v", err)
	}
	m.put(key, `garbage`)
	if lock, err := states.Lock(t.Context(), "network"); err != nil || lock == nil || lock.Who != "unknown" || lock.ID != "3" {
		t.Errorf("a lock that cannot be read: %+v, %v", lock, err)
	}
	if _, err := states.Unlock(t.Context(), "network", "3", nil); err != nil {
		t.Errorf("unlock it: %v", err)
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	m := newMemory()
	states := state.New(m, "prod")
	if _, ok, err := states.Note(t.Context(), "network"); ok || err != nil {
		t.Errorf("no note: %v, %v", ok, err)
	}
	want := state.Note{Inputs: "d1", Serial: 3, Lineage: "l", Terraform: "1.11.4", Run: "r1", Applied: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for range 2 {
		if err := states.PutNote(t.Context(), "network", want); err != nil {
			t.Fatal(err)
		}
	}
	want.Version = state.NoteVersion
	if got, ok, err := states.Note(t.Context(), "network"); !ok || err != nil || got != want {
		t.Errorf("note %+v, %v, %v", got, ok, err)
	}
	for _, other := range []string{`{"version":2,"inputs":"d1"}`, `{`, `{"inputs":"d1"}`} {
		m.put("prod/network/latamctl.json", other)
		if got, ok, err := states.Note(t.Context(), "network"); ok || err != nil || got != (state.Note{}) && ok {
			t.Errorf("%s is taken as %+v, %v", other, got, err)
		}
	}
	m.setFail(bucket.ErrDenied)
	if _, _, err := states.Note(t.Context(), "network"); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("a note that may not be read: %v", err)
	}
	m.setFail(nil)
	for range 2 {
		if err := states.DeleteNote(t.Context(), "network"); err != nil {
			t.Error(err)
		}
	}
	if len(m.objects) != 0 {
		t.Error(fmt.Sprint("left: ", m.objects))
	}
}
