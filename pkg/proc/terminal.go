package proc

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// ErrSize is how many columns and rows the terminal of Err has now; ok is false when it is none.
func (p *Process) ErrSize() (columns, rows int, ok bool) {
	f, isFile := p.Err.(*os.File)
	if !isFile || !p.ErrTerminal {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	return columns, rows, err == nil && columns > 0 && rows > 0
}

// CreateSecretFile creates or empties a file that only its owner may read, to be written bit by
// bit. Folders on the way are created.
func (p *Process) CreateSecretFile(path string) (io.WriteCloser, error) {
	return p.openFor(path, os.O_TRUNC, 0o600)
}

// AppendFile adds to the end of a file, which is created when it is not there.
func (p *Process) AppendFile(path string, data []byte) error {
	f, err := p.openFor(path, os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	return nil
}

func (p *Process) openFor(path string, flag int, mode os.FileMode) (io.WriteCloser, error) {
	path = p.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag|os.O_CREATE|os.O_WRONLY, mode)
}

// FS is a folder and what is below it, for reading. The error says that there is no such folder.
func (p *Process) FS(dir string) (fs.FS, error) {
	path := p.Path(dir)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a folder", path)
	}
	return os.DirFS(path), nil
}
