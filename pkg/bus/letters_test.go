package bus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
)

// letters looks a subscription through and returns what came by its content, with its id.
func (b *bench) letters(t *testing.T, l *bus.Letters) map[string]string {
	t.Helper()
	got := map[string]string{}
	for {
		page, err := l.Next(limited(t))
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatalf("next: %v", err)
		}
		for _, m := range page {
			if got[string(m.Data)] != "" {
				t.Errorf("%s came twice", m.Data)
			}
			got[string(m.Data)] = m.ID
		}
	}
}

// publishMany publishes n messages and returns their ids by content.
func (b *bench) publishMany(t *testing.T, topic string, n int) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for begin := 0; begin < n; begin += bus.MaxBatchMessages {
		var batch []bus.Message
		for i := begin; i < min(n, begin+bus.MaxBatchMessages); i++ {
			batch = append(batch, bus.Message{Data: fmt.Append(nil, i), Attributes: map[string]string{"n": fmt.Sprint(i)}})
		}
		got, err := b.client.PublishBatch(limited(t), topic, batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range got {
			ids[string(batch[i].Data)] = id
		}
	}
	return ids
}

// quick are options for tests: the lease is the shortest that can be renewed twice a second or so.
func quick() bus.LettersOptions {
	return bus.LettersOptions{Lease: 2 * time.Second, PageMessages: 700}
}

// testLetters: everything is seen once and held, and only what was removed is gone afterwards.
func testLetters(t *testing.T, b *bench) {
	r := b.ensured(t)
	want := b.publishMany(t, r.Topic, 2500)
	one := b.client.Letters(r.Subscription, quick())
	if diff := cmp.Diff(want, b.letters(t, one)); diff != "" {
		t.Fatalf("looked through once (-published +seen):\n%s", diff)
	}
	other := b.client.Letters(r.Subscription, quick())
	defer func() { _ = other.Close() }()
	// Twice as long as a lease: it must have been renewed.
	for end := time.Now().Add(2 * quick().Lease); time.Now().Before(end); {
		if got := b.letters(t, other); len(got) > 0 {
			t.Fatalf("%d messages were seen that another one holds", len(got))
		}
	}
	var gone, back []string
	for data, id := range maps.All(want) {
		switch {
		case len(data) == 3:
			gone = append(gone, id)
			delete(want, data)
		case len(data) == 2:
			back = append(back, id)
		}
	}
	if err := errors.Join(one.Remove(limited(t), gone), one.Return(limited(t), back)); err != nil {
		t.Fatal(err)
	}
	if got := b.letters(t, other); len(got) != len(back) {
		t.Errorf("%d messages are seen when %d were given back", len(got), len(back))
	}
	if got := b.letters(t, one); len(got) != 0 {
		t.Errorf("%d messages came again to the one that has seen them", len(got))
	}
	if err := errors.Join(one.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	last := b.client.Letters(r.Subscription, quick())
	defer func() { _ = last.Close() }()
	if diff := cmp.Diff(want, b.letters(t, last)); diff != "" {
		t.Errorf("after the removal (-left +seen):\n%s", diff)
	}
}

// testLettersTwo: two that look through at once share the messages between them.
func testLettersTwo(t *testing.T, b *bench) {
	r := b.ensured(t)
	want := b.publishMany(t, r.Topic, 300)
	opts := quick()
	opts.PageMessages = 20
	one, two := b.client.Letters(r.Subscription, opts), b.client.Letters(r.Subscription, opts)
	defer func() { _ = errors.Join(one.Close(), two.Close()) }()
	seen := map[string]string{}
	open := []*bus.Letters{one, two}
	for len(open) > 0 {
		open = slices.DeleteFunc(open, func(l *bus.Letters) bool {
			page, err := l.Next(limited(t))
			for _, m := range page {
				if seen[string(m.Data)] != "" {
					t.Errorf("%s was seen by both", m.Data)
				}
				seen[string(m.Data)] = m.ID
			}
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return err != nil
		})
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-published +seen):\n%s", diff)
	}
}

func testLettersBound(t *testing.T, b *bench) {
	r := b.ensured(t)
	b.publishMany(t, r.Topic, 30)
	opts := quick()
	opts.MaxHeld = 25
	l := b.client.Letters(r.Subscription, opts)
	defer func() { _ = l.Close() }()
	var ids []string
	for {
		page, err := l.Next(limited(t))
		if errors.Is(err, bus.ErrHeldEnough) {
			break
		}
		if err != nil {
			t.Fatalf("next after %d messages: %v", len(ids), err)
		}
		for _, m := range page {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) != 25 {
		t.Errorf("%d messages are held, at most 25 may be", len(ids))
	}
	if err := l.Remove(limited(t), ids); err != nil {
		t.Fatal(err)
	}
	if got := b.letters(t, l); len(got) != 5 {
		t.Errorf("%d messages came once there was room, want 5", len(got))
	}
}

// testLettersInterrupted: what ends in the middle gives everything back at once.
func testLettersInterrupted(t *testing.T, b *bench) {
	r := b.ensured(t)
	want := b.publishMany(t, r.Topic, 40)
	opts := bus.LettersOptions{PageMessages: 10, Lease: 10 * time.Minute}
	l := b.client.Letters(r.Subscription, opts)
	ctx, cancel := context.WithCancel(limited(t))
	if _, err := l.Next(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := l.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("next after the interrupt: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again := b.client.Letters(r.Subscription, quick())
	defer func() { _ = again.Close() }()
	if diff := cmp.Diff(want, b.letters(t, again)); diff != "" {
		t.Errorf("after an interrupt (-published +seen):\n%s", diff)
	}
}

func testLettersNotFound(t *testing.T, b *bench) {
	l := b.client.Letters(b.newRoute().Subscription, quick())
	_, err := l.Next(limited(t))
	checkKind(t, "letters", err, bus.ErrNotFound)
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
