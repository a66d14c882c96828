// Package testkit is what fault tests share: a ledger of what a test handed to the system and what
// the system acknowledged, and a checker that compares the ledger with what is there afterwards.
// Only tests import it.
package testkit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf8"
)

// Attempt is one thing that a test handed to the system: a message published or a row written.
type Attempt struct {
	// N numbers the attempts of a ledger from 1, in the order of their intents.
	N int
	// Key is what the attempt is about: the identity of its row. Several attempts may share one.
	Key string
	// Payload is what was sent. It is valid UTF-8, so that a person can read the ledger.
	Payload string
	// Reason is why the attempt has to end as a dead letter; empty for a healthy one.
	Reason string
	// Acked says that the system took the attempt. One that is not acknowledged may have happened
	// or not.
	Acked bool
	// ID is the message id of an acknowledged publish.
	ID string
}

// Ledger writes attempts to a file as they happen, one JSON object a line: an intent before the
// system is asked, an acknowledgement after it has answered. It is safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex
	file *os.File
	last int
}

// line is one line of the file. An intent has a key, an acknowledgement has none.
type line struct {
	Op      string `json:"op"`
	N       int    `json:"n"`
	Key     string `json:"key,omitempty"`
	Payload string `json:"payload,omitempty"`
	Reason  string `json:"reason,omitempty"`
	ID      string `json:"id,omitempty"`
}

const (
	opIntent = "intent"
	opAcked  = "acked"
)

// CreateLedger begins an empty ledger in a new file.
func CreateLedger(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	return &Ledger{file: file}, nil
}

// Path is the ledger's file.
func (l *Ledger) Path() string { return l.file.Name() }

// Close closes the file.
func (l *Ledger) Close() error { return l.file.Close() }

// Intend numbers attempts and records them; the system may be asked once it has returned.
func (l *Ledger) Intend(attempts []Attempt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := make([]line, len(attempts))
	for i := range attempts {
		a := &attempts[i]
		if !utf8.ValidString(a.Key) || !utf8.ValidString(a.Payload) {
			return fmt.Errorf("record intent %q: the key or the payload is not UTF-8", a.Key)
		}
		l.last++
		a.N = l.last
		lines[i] = line{Op: opIntent, N: a.N, Key: a.Key, Payload: a.Payload, Reason: a.Reason}
	}
	return l.write(lines)
}

// Acknowledge records that the system took the attempts, and their message ids where there are any.
func (l *Ledger) Acknowledge(attempts []Attempt, ids []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := make([]line, len(attempts))
	for i, a := range attempts {
		lines[i] = line{Op: opAcked, N: a.N}
		if ids != nil {
			lines[i].ID = ids[i]
		}
	}
	return l.write(lines)
}

// write appends lines and waits for the disk. The caller holds l.mu.
func (l *Ledger) write(lines []line) error {
	var buf []byte
	for _, ln := range lines {
		b, err := json.Marshal(ln)
		if err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
		buf = append(append(buf, b...), '\n')
	}
	if _, err := l.file.Write(buf); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

var errLedger = errors.New("the ledger is damaged")

// ReadLedger returns the attempts of a ledger's file in their order.
func ReadLedger(path string) ([]Attempt, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer func() { _ = file.Close() }() // It was only read.
	var attempts []Attempt
	for dec := json.NewDecoder(bufio.NewReader(file)); ; {
		var ln line
		if err := dec.Decode(&ln); errors.Is(err, io.EOF) {
			return attempts, nil
		} else if err != nil {
			return nil, fmt.Errorf("read ledger %s: %w", path, err)
		}
		switch {
		case ln.Op == opIntent && ln.N == len(attempts)+1:
			attempts = append(attempts, Attempt{N: ln.N, Key: ln.Key, Payload: ln.Payload, Reason: ln.Reason})
		case ln.Op == opAcked && ln.N >= 1 && ln.N <= len(attempts) && !attempts[ln.N-1].Acked:
			attempts[ln.N-1].Acked, attempts[ln.N-1].ID = true, ln.ID
		default:
			return nil, fmt.Errorf("read ledger %s: %w: %s of attempt %d", path, errLedger, ln.Op, ln.N)
		}
	}
}
