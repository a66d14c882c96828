//go:build !linux

package topiclog

import "os"

// syncData waits until the content of f is on the disk.
func syncData(f *os.File) error { return f.Sync() }
