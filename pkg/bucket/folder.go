package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/latamctl/latamctl/pkg/proc"
)

// folder keeps objects as files. The version of one is the digest of its content, because Terraform
// writes files too and knows nothing of versions.
type folder struct {
	url  string // as the user gave it
	dir  string // absolute
	opts Options
	proc *proc.Process
}

// lockName is the lock that writes of all processes are made under.
const lockName = ".latamctl"

// leftover is a file that a write left when its process was killed.
var leftover = regexp.MustCompile(`(^|/)\.[^/]+\.[0-9]+$`)

func openFolder(location string, opts Options) (*folder, error) {
	dir, err := filepath.Abs(opts.Proc.Path(location))
	if err != nil {
		return nil, fmt.Errorf("open the folder of states %s: %w", location, err)
	}
	return &folder{url: location, dir: dir, opts: opts, proc: opts.Proc}, nil
}

func (f *folder) URL() string { return f.url }

// Backend is Terraform's local backend with an absolute path, because Terraform runs elsewhere.
func (f *folder) Backend(prefix string) (kind string, config map[string]any) {
	return "local", map[string]any{"path": f.path(f.StateKey(prefix))}
}

func (f *folder) StateKey(prefix string) string { return path.Join(prefix, "default.tfstate") }

func (f *folder) LockKey(prefix string) string {
	return path.Join(prefix, ".default.tfstate.lock.info")
}

// StateHolder returns the process that has the state under a prefix locked, 0 when there is none: the
// local backend leaves the file at LockKey behind when it is killed, but the kernel's lock ends with it.
func (f *folder) StateHolder(prefix string) (pid int, err error) {
	return f.proc.RecordLock(f.path(f.StateKey(prefix)))
}

func (f *folder) path(key string) string { return filepath.Join(f.dir, filepath.FromSlash(key)) }

func (f *folder) Read(ctx context.Context, key string) ([]byte, Generation, error) {
	if err := errors.Join(checkKey(key), context.Cause(ctx)); err != nil {
		return nil, "", err
	}
	data, err := f.proc.ReadFileLimit(f.path(key), f.opts.MaxObjectBytes)
	if err != nil {
		return nil, "", f.wrap("read", key, err)
	}
	return data, digest(data), nil
}

func digest(data []byte) Generation {
	sum := sha256.Sum256(data)
	return Generation(hex.EncodeToString(sum[:]))
}

// wrap says what was done to which file, and gives the error its kind.
func (f *folder) wrap(verb, key string, err error) error {
	doing := verb + " " + f.path(key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", doing, ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: %w", doing, ErrDenied, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// locked runs a change while no other process makes one, if the object still has that version.
func (f *folder) locked(ctx context.Context, verb, key string, version Generation, change func() error) error {
	if err := errors.Join(checkKey(key), context.Cause(ctx)); err != nil {
		return err
	}
	// The lock and what is written need the folder, and a folder needs no more than to be there.
	if _, err := f.proc.MakePrivateDir(f.dir); err != nil {
		return f.wrap(verb, key, err)
	}
	bounded, cancel := context.WithTimeout(ctx, f.opts.Timeout)
	defer cancel()
	unlock, err := f.proc.LockFile(bounded, filepath.Join(f.dir, lockName))
	if err != nil {
		return f.wrap(verb, key, err)
	}
	defer unlock()
	if version != Any {
		_, now, err := f.Read(ctx, key)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return err
		}
		if now != version {
			return fmt.Errorf("%s %s: %w", verb, f.path(key), ErrConflict)
		}
	}
	if err := change(); err != nil {
		return f.wrap(verb, key, err)
	}
	return nil
}

func (f *folder) Write(ctx context.Context, key string, data []byte, version Generation) (Generation, error) {
	if int64(len(data)) > f.opts.MaxObjectBytes {
		return "", fmt.Errorf("write %s: it has %d bytes, and %d are allowed", f.path(key), len(data), f.opts.MaxObjectBytes)
	}
	err := f.locked(ctx, "write", key, version, func() error { return f.proc.WriteSecretFile(f.path(key), data) })
	if err != nil {
		return "", err
	}
	return digest(data), nil
}

func (f *folder) Delete(ctx context.Context, key string, version Generation) error {
	if version == "" {
		return fmt.Errorf("delete %s: it needs the version to delete", f.path(key))
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if !f.proc.Exists(f.path(key)) {
		return nil
	}
	return f.locked(ctx, "delete", key, version, func() error { return f.proc.Remove(f.path(key)) })
}

func (f *folder) List(ctx context.Context, prefix string) ([]string, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if !f.proc.Exists(f.dir) {
		return nil, fmt.Errorf("list %s: %w", f.dir, ErrNoBucket)
	}
	files, err := f.proc.TreeFiles(f.dir, f.opts.MaxObjects)
	if err != nil {
		return nil, f.wrap("list", "", err)
	}
	var keys []string
	for _, key := range files {
		if strings.HasPrefix(key, prefix) && key != lockName+".lock" && !leftover.MatchString(key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
