package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// terminal is a naive one: it understands what screen writes, and wraps lines at its width.
type terminal struct {
	mu            sync.Mutex
	columns, rows int
	lines         []string
	writes        int
	bad           string
}

func (m *terminal) size() (columns, rows int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.columns, m.rows, true
}

func (m *terminal) resize(columns int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.columns = columns
	var lines []string
	for _, line := range m.lines { // As terminals do: what no longer fits continues below.
		runes := []rune(line)
		for len(runes) > columns {
			lines, runes = append(lines, string(runes[:columns])), runes[columns:]
		}
		lines = append(lines, string(runes))
	}
	m.lines = lines
}

func (m *terminal) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	text := string(b)
	for text != "" {
		var up int
		if n, _ := fmt.Sscanf(text, "\x1b[%dA\r\x1b[J", &up); n == 1 {
			if up > len(m.lines) {
				m.bad = fmt.Sprintf("%d lines up of %d", up, len(m.lines))
				up = len(m.lines)
			}
			m.lines = m.lines[:len(m.lines)-up]
			text = strings.TrimPrefix(text, fmt.Sprintf("\x1b[%dA\r\x1b[J", up))
			continue
		}
		line, rest, ok := strings.Cut(text, "\n")
		if !ok || strings.ContainsAny(line, "\x1b\r") {
			m.bad = fmt.Sprintf("%q", text)
			break
		}
		if utf8.RuneCountInString(line) >= m.columns && !strings.HasPrefix(line, "interrupted") { // Notes stay, so they may wrap.
			m.bad = fmt.Sprintf("%q is wider than %d", line, m.columns)
		}
		m.lines, text = append(m.lines, line), rest
	}
	return len(b), nil
}

func (m *terminal) screen() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "\n")
}

// drawn is how often something was written so far.
func (m *terminal) drawn() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

func plainPaint(_ plan.Colour, text string) string { return text }

func TestLiveLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &terminal{columns: 70, rows: 24}
		p := newProgress(progressOptions{out: &patient{w: m}, size: m.size, paint: plainPaint, now: time.Now})
		p.observe(stack.Step{Stack: "network", Phase: stack.Planning})
		p.observe(stack.Step{Stack: "storage", Phase: stack.Applying, Done: 1, Total: 4})
		p.observe(stack.Step{Stack: "storage", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_start", Address: "google_bigtable_instance.main"}})
		time.Sleep(70*time.Second + 500*time.Millisecond)
		want := "network  planning   (1m10s)\nstorage  applying   1/4  google_bigtable_instance.main (1m10s)"
		if got := m.screen(); got != want {
			t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
		}
		before := m.drawn()
		for range 1000 {
			p.observe(stack.Step{Stack: "network", Phase: stack.Planning, Message: "refreshing"})
			time.Sleep(time.Millisecond)
		}
		if n := m.drawn() - before; n > 12 {
			t.Errorf("%d redraws in a second", n)
		}
		p.note("interrupted: nothing new is started")
		m.resize(30)
		p.observe(stack.Step{Stack: "network", Phase: stack.Done})
		time.Sleep(time.Second)
		if got := m.screen(); !strings.HasPrefix(got, "interrupted: nothing new is started\nnetwork  done") || strings.Count(got, "storage") != 1 {
			t.Errorf("after a note on a narrower terminal:\n%s", got)
		}
		release := p.hold()
		if got := m.screen(); got != "interrupted: nothing new is started" {
			t.Errorf("while a question is asked:\n%s", got)
		}
		time.Sleep(5 * time.Second)
		if got := m.screen(); got != "interrupted: nothing new is started" {
			t.Errorf("while a question is asked:\n%s", got)
		}
		release()
		p.observe(stack.Step{Stack: "storage", Phase: stack.Broken, Message: "403"})
		p.close()
		if got := m.screen(); !strings.HasSuffix(got, "storage  failed     1/4  403") && !strings.HasSuffix(got, "storage  failed     403") {
			t.Errorf("at the end:\n%s", got)
		}
		if m.bad != "" {
			t.Error(m.bad)
		}
	})
}

// TestMoreStacksThanRows: what goes on is shown, what is over is counted.
func TestMoreStacksThanRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &terminal{columns: 80, rows: 6}
		p := newProgress(progressOptions{out: &patient{w: m}, size: m.size, paint: plainPaint, now: time.Now})
		for i := range 20 {
			phase := stack.Done
			if i%5 == 0 {
				phase = stack.Applying
			}
			p.observe(stack.Step{Stack: fmt.Sprintf("s%02d", i), Phase: phase})
		}
		p.close()
		lines := strings.Split(m.screen(), "\n")
		if len(lines) != 5 || !strings.HasPrefix(lines[3], "s15") || lines[4] != "… and 16 more" {
			t.Errorf("the screen shows %q", lines)
		}
	})
}

// stuck is a reader that does not read any more, and does not close.
type stuck struct{ hold chan struct{} }

func (s stuck) Write(b []byte) (int, error) {
	<-s.hold
	return len(b), nil
}

// TestStuckReader: neither steps nor the end wait for it.
func TestStuckReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := newProgress(progressOptions{out: stuck{hold}, paint: plainPaint, now: time.Now})
		began := time.Now()
		for range 3 * maxQueued {
			p.observe(stack.Step{Stack: "storage", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_complete", Address: "a", Message: "m"}})
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("steps waited %s", took)
		}
		p.close()
		if took := time.Since(began); took > closePatience {
			t.Errorf("the end waited %s", took)
		}
		close(hold)
	})
}

func TestPlainLinesSayThatSomethingLongGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := newProgress(progressOptions{out: &b, paint: plainPaint, now: time.Now})
		p.observe(stack.Step{Stack: "cluster", Phase: stack.Applying})
		for i := range 12 {
			time.Sleep(10 * time.Second)
			p.observe(stack.Step{Stack: "cluster", Phase: stack.Applying, Event: &terraform.Event{Type: "apply_progress", Address: "c", Message: fmt.Sprintf("c: Still creating... [%ds elapsed]", 10*(i+1)), Elapsed: time.Duration(i+1) * 10 * time.Second}})
		}
		p.close()
		want := "cluster: applying\ncluster: c: Still creating... [30s elapsed]\ncluster: c: Still creating... [60s elapsed]\ncluster: c: Still creating... [90s elapsed]\ncluster: c: Still creating... [120s elapsed]\n"
		if b.String() != want {
			t.Errorf("got\n%s", b.String())
		}
	})
}

func TestPatientWriter(t *testing.T) {
	t.Parallel()
	w := &closing{}
	p := &patient{w: w}
	for range 3 {
		if n, err := p.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if w.calls != 1 {
		t.Errorf("written %d times to a closed pipe", w.calls)
	}
}

type closing struct{ calls int }

func (c *closing) Write([]byte) (int, error) {
	c.calls++
	return 0, errors.New("broken pipe")
}
