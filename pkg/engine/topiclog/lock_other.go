//go:build !unix

package topiclog

import (
	"io"
	"os"
	"path/filepath"
)

// lockDir marks the folder as used; this platform does not enforce it.
func lockDir(dir string) (io.Closer, error) {
	return os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
}
