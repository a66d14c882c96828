package testkit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/testkit"
)

func newLedger(t *testing.T) *testkit.Ledger {
	t.Helper()
	l, err := testkit.CreateLedger(filepath.Join(t.TempDir(), "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestLedgerReadsBackWhatWasRecorded(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	first := []testkit.Attempt{{Key: "a", Payload: `{"key":"a"}`}, {Key: "b", Payload: "not json\n\x00é"}}
	second := []testkit.Attempt{{Key: "a", Payload: "again", Reason: "bad_json"}}
	for _, attempts := range [][]testkit.Attempt{first, second} {
		if err := l.Intend(attempts); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Acknowledge(second, []string{"42"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Acknowledge(first[1:], nil); err != nil {
		t.Fatal(err)
	}
	got, err := testkit.ReadLedger(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	want := []testkit.Attempt{
		{N: 1, Key: "a", Payload: `{"key":"a"}`},
		{N: 2, Key: "b", Payload: "not json\n\x00é", Acked: true},
		{N: 3, Key: "a", Payload: "again", Reason: "bad_json", Acked: true, ID: "42"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLedgerOfSeveralWriters(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 20
	l := newLedger(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				attempts := []testkit.Attempt{{Key: fmt.Sprintf("%d-%d", w, i), Payload: "p"}}
				if err := l.Intend(attempts); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := l.Acknowledge(attempts, nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	got, err := testkit.ReadLedger(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != writers*each {
		t.Fatalf("%d attempts, want %d", len(got), writers*each)
	}
	for _, a := range got {
		var w, i int
		if _, err := fmt.Sscanf(a.Key, "%d-%d", &w, &i); err != nil {
			t.Fatal(err)
		}
		if a.Acked != (i%2 == 0) {
			t.Errorf("attempt %d of %s: acked %v", a.N, a.Key, a.Acked)
		}
	}
}

func TestLedgerRefuses(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	if err := l.Intend([]testkit.Attempt{{Key: "a", Payload: "\xff"}}); err == nil {
		t.Error("a payload that JSON would change was taken")
	}
	if _, err := testkit.CreateLedger(l.Path()); err == nil {
		t.Error("an older ledger was overwritten")
	}
	for name, content := range map[string]string{
		"an acknowledgement without intent": `{"op":"acked","n":1}`,
		"an attempt acknowledged twice":     `{"op":"intent","n":1,"key":"a"}{"op":"acked","n":1}{"op":"acked","n":1}`,
		"a gap":                             `{"op":"intent","n":2,"key":"a"}`,
		"half a line":                       `{"op":"intent","n":1,`,
		"an unknown line":                   `{"op":"maybe","n":1}`,
	} {
		path := filepath.Join(t.TempDir(), "ledger.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := testkit.ReadLedger(path); err == nil {
			t.Errorf("%s was read as %v", name, got)
		}
	}
}
