package topiclog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData waits until the content and the size of f are on the disk, without
// its other metadata.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
