package proc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestWriteSecretFile(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	if err := p.WriteFile("f", []byte("open")); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSecretFile("f", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(p.Dir, "f"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600 even where the file was open", info.Mode(), err)
	}
}

// TestStamp: a file that is replaced has another stamp, even with the same size at the same time.
func TestStamp(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	if _, err := p.Stamp("f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	at := time.Now()
	stamp := func() string {
		t.Helper()
		if err := os.Chtimes(filepath.Join(p.Dir, "f"), at, at); err != nil {
			t.Fatal(err)
		}
		s, err := p.Stamp("f")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := p.WriteFile("f", []byte("one")); err != nil {
		t.Fatal(err)
	}
	first := stamp()
	if again := stamp(); again != first {
		t.Errorf("the stamp of a file that stays went from %s to %s", first, again)
	}
	if err := p.WriteFile("f", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if second := stamp(); second == first {
		t.Errorf("the file was replaced, and its stamp is still %s", first)
	}
}

// TestLockFile adds to a number in a file from many sides at once: none is lost.
func TestLockFile(t *testing.T) {
	t.Parallel()
	p := &Process{Dir: t.TempDir()}
	const sides = 20
	var all sync.WaitGroup
	for range sides {
		all.Go(func() {
			unlock, err := p.LockFile(t.Context(), "a/n")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			b, _ := p.ReadFile("a/n") // The first finds none.
			n, _ := strconv.Atoi(string(b))
			if err := p.WriteSecretFile("a/n", []byte(strconv.Itoa(n+1))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if b, err := p.ReadFile("a/n"); string(b) != strconv.Itoa(sides) {
		t.Errorf("the file says %s, %v; want %d", b, err, sides)
	}
	unlock, err := p.LockFile(t.Context(), "a/n")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.LockFile(ctx, "a/n"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lock that is held: %v", err)
	}
}
