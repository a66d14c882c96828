package topiclog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// storage is the part of a file system that the server needs. Names are slash
// separated and relative to the server's folder. Tests put a failing one in.
type storage interface {
	// open opens a file for reading and writing, and creates it (and its
	// folder) durably when missing.
	open(name string) (file, error)
	// list returns the names below a folder, none when it is missing.
	list(dir string) ([]string, error)
	// remove deletes a file or a folder with all it holds.
	remove(name string) error
	// replace swaps the content of a file in one step; durable waits for the
	// disk.
	replace(name string, data []byte, durable bool) error
}

// file is one open file of a storage.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	extent
}

// extent is how the log sees the size and the durability of a file.
type extent interface {
	size() (int64, error)
	truncate(size int64) error
	sync() error
}

// readAll returns the content of a whole file, nil when it is missing or empty.
func readAll(st storage, dir, base string) ([]byte, error) {
	names, err := st.list(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n == base {
			return readFile(st, join(dir, base))
		}
	}
	return nil, nil
}

func readFile(st storage, name string) ([]byte, error) {
	f, err := st.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	n, err := f.size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// diskStorage keeps files below a folder.
type diskStorage struct{ root string }

type diskFile struct{ *os.File }

func (d diskStorage) path(name string) string {
	return filepath.Join(d.root, filepath.FromSlash(name))
}

func (d diskStorage) open(name string) (file, error) {
	p := d.path(name)
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err == nil {
		return diskFile{f}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return nil, err
	}
	f, err = os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.syncParents(p); err != nil {
		_ = f.Close()
		return nil, err
	}
	return diskFile{f}, nil
}

// syncParents makes a new name durable, including folders just made for it.
func (d diskStorage) syncParents(p string) error {
	for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
		if err := syncDir(dir); err != nil {
			return err
		}
		if dir == filepath.Clean(d.root) || dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (d diskStorage) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (d diskStorage) remove(name string) error { return os.RemoveAll(d.path(name)) }

func (d diskStorage) replace(name string, data []byte, durable bool) error {
	p := d.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	tmp := p + ".tmp"
	if err := writeFile(tmp, data, durable); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, p); err != nil {
		return err
	}
	if durable {
		return d.syncParents(p)
	}
	return nil
}

func writeFile(p string, data []byte, durable bool) error {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (f diskFile) size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f diskFile) truncate(size int64) error { return f.Truncate(size) }

func (f diskFile) sync() error { return syncData(f.File) }
