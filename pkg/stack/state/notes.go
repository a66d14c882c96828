package state

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
)

// NoteVersion is the version of the notes that this program writes and reads.
const NoteVersion = 1

// Note is what latamctl remembers of the last good apply of a stack, beside its state.
type Note struct {
	Version int `json:"version"`
	// Inputs is the digest of everything that the apply was made from.
	Inputs string `json:"inputs"`
	// Serial and Lineage are those of the state after the apply. Others mean that somebody else applied since.
	Serial  uint64 `json:"serial"`
	Lineage string `json:"lineage"`
	// Terraform is the version of the program, Run the id of the run.
	Terraform string    `json:"terraform"`
	Run       string    `json:"run"`
	Applied   time.Time `json:"applied"`
}

func (s *States) noteKey(stack string) string { return path.Join(s.Prefix(stack), "latamctl.json") }

// Note returns the note of a stack; ok is false when there is none, or none that this program can read:
// a note only saves work, so it never stands in the way.
func (s *States) Note(ctx context.Context, stack string) (note Note, ok bool, err error) {
	data, _, err := s.bucket.Read(ctx, s.noteKey(stack))
	if absent(err) {
		return Note{}, false, nil
	}
	if err != nil {
		return Note{}, false, fmt.Errorf("read the note of stack %s: %w", stack, err)
	}
	readable := json.Unmarshal(data, &note) == nil && note.Version == NoteVersion
	if !readable {
		note = Note{}
	}
	return note, readable, nil
}

// PutNote replaces the note of a stack. Its Version is set.
func (s *States) PutNote(ctx context.Context, stack string, note Note) error {
	note.Version = NoteVersion
	data, err := json.MarshalIndent(note, "", "  ")
	if err == nil {
		_, err = s.bucket.Write(ctx, s.noteKey(stack), append(data, '\n'), bucket.Any)
	}
	if err != nil {
		return fmt.Errorf("write the note of stack %s: %w", stack, err)
	}
	return nil
}

// DeleteNote removes the note of a stack, as a destroy does.
func (s *States) DeleteNote(ctx context.Context, stack string) error {
	if err := s.bucket.Delete(ctx, s.noteKey(stack), bucket.Any); err != nil && !absent(err) {
		return fmt.Errorf("delete the note of stack %s: %w", stack, err)
	}
	return nil
}
