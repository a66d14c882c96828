package proc

import (
	"errors"
	"os"
	"path/filepath"
)

// Journal is a file that is added to line by line.
type Journal struct{ file *os.File }

// OpenJournal opens a file to add to, which is created when it is not there.
func (p *Process) OpenJournal(path string) (*Journal, error) {
	path = p.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &Journal{file}, nil
}

// Write adds to the end.
func (j *Journal) Write(b []byte) (int, error) { return j.file.Write(b) }

// Truncate cuts the file to its first bytes.
func (j *Journal) Truncate(size int64) error { return j.file.Truncate(size) }

// Sync returns once everything that was written would survive the loss of power.
func (j *Journal) Sync() error { return j.file.Sync() }

// Close syncs and closes it.
func (j *Journal) Close() error { return errors.Join(j.file.Sync(), j.file.Close()) }
