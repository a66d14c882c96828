package proc

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncFolder makes a folder hold the given files, by slash-separated path, and is the only reader of
// the folder and its files besides its owner. A file that is the same already is not written; others
// are removed unless keep says that their path stays. A kept folder is not looked into.
func (p *Process) SyncFolder(dir string, files map[string][]byte, keep func(path string) bool) error {
	dir = p.Path(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create folder %s: %w", dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make folder %s private: %w", dir, err)
	}
	var stale []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		_, wanted := files[name]
		switch {
		case keep(name) && entry.IsDir():
			return fs.SkipDir
		case wanted && entry.Type().IsRegular(), keep(name), entry.IsDir():
			return nil
		}
		stale = append(stale, path)
		return nil
	})
	for _, path := range stale {
		if err == nil {
			err = os.Remove(path)
		}
	}
	if err != nil {
		return fmt.Errorf("remove old files of %s: %w", dir, err)
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		// What is half written after a crash differs, and is written again.
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("create folder of %s: %w", path, err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// RemoveFolder deletes a folder with all that is in it; one that is not there is no error.
func (p *Process) RemoveFolder(dir string) error { return os.RemoveAll(p.Path(dir)) }

// MakeDir makes a folder that only its owner can enter. It must not exist yet.
func (p *Process) MakeDir(dir string) error {
	dir = p.Path(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

// CopySecretFile copies a file to one that only its owner can read.
func (p *Process) CopySecretFile(from, to string) error {
	data, err := p.ReadFile(from)
	if err != nil {
		return err
	}
	return p.WriteSecretFile(to, data)
}
