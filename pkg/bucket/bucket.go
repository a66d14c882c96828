// Package bucket keeps objects in a Google Cloud Storage bucket or in a folder: Terraform's states,
// the notes beside them, and locks. Writes can be conditional on what was read.
package bucket

import (
	"context"
	"errors"
)

// Errors of every bucket.
var (
	ErrNotExist    = errors.New("no such object")
	ErrConflict    = errors.New("the object was changed by someone else")
	ErrNoBucket    = errors.New("no such bucket")
	ErrDenied      = errors.New("not authenticated or not allowed")
	ErrUnavailable = errors.New("the storage cannot be reached")
)

// Generation is a version of an object. The zero value is "does not exist".
type Generation string

// Any writes or deletes whatever version there is.
const Any Generation = "*"

// Bucket is a place for objects. Keys are slash-separated.
type Bucket interface {
	// Read returns an object's content and version, or ErrNotExist.
	Read(ctx context.Context, key string) ([]byte, Generation, error)
	// Write stores an object if its version is still the given one, else returns ErrConflict.
	Write(ctx context.Context, key string, data []byte, version Generation) (Generation, error)
	// Delete removes that version of an object; one that is gone is no error.
	Delete(ctx context.Context, key string, version Generation) error
	// List returns the keys under a prefix, in order.
	List(ctx context.Context, prefix string) ([]string, error)
	// URL is what the user gave: gs://name, or a folder.
	URL() string
	// Backend returns the type and configuration of the Terraform backend that keeps its state under a prefix.
	Backend(prefix string) (kind string, config map[string]any)
	// StateKey and LockKey are where that backend keeps the state and its lock.
	StateKey(prefix string) string
	LockKey(prefix string) string
}
