package topiclog

import (
	"io"
	"strings"
	"sync"
)

// memStorage keeps files in memory. A removed file frees its bytes once the
// last reader has closed it.
type memStorage struct {
	mu    sync.Mutex
	files map[string]*memFile
}

type memFile struct {
	mu   sync.RWMutex
	data []byte
}

func newMemStorage() *memStorage { return &memStorage{files: map[string]*memFile{}} }

func (m *memStorage) open(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		f = &memFile{}
		m.files[name] = f
	}
	return f, nil
}

func (m *memStorage) list(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	var names []string
	for n := range m.files {
		rest := n
		if dir != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(n, dir+"/"); !ok {
				continue
			}
		}
		rest, _, _ = strings.Cut(rest, "/")
		if !seen[rest] {
			seen[rest] = true
			names = append(names, rest)
		}
	}
	return names, nil
}

func (m *memStorage) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.files {
		if n == name || strings.HasPrefix(n, name+"/") {
			delete(m.files, n)
		}
	}
	return nil
}

func (m *memStorage) replace(name string, data []byte, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = &memFile{data: append([]byte(nil), data...)}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if need := off + int64(len(p)); need > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, need-int64(len(f.data)))...)
	}
	return copy(f.data[off:], p), nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return int64(len(f.data)), nil
}

func (f *memFile) truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < int64(len(f.data)) {
		f.data = f.data[:size]
	}
	return nil
}

func (f *memFile) sync() error { return nil }
