package ingest

import (
	"errors"
	"fmt"
	"hash/maphash"
)

// decodeError is why a message did not become a record.
type decodeError struct{ cause error }

func (e decodeError) Error() string { return e.cause.Error() }
func (e decodeError) Unwrap() error { return e.cause }

// unreadable tells whether a message could not be decoded for a reason that is not in the message, such as
// a schema that cannot be had.
func unreadable(err error) bool {
	var undecoded decodeError
	return errors.As(err, &undecoded) && !rejected(err) && !errors.Is(err, errPanicked)
}

func noSchema(cause error) error {
	return fmt.Errorf("paused because payloads cannot be read: make the schema of the topic available to ingest, then it goes on by itself: %w: %w",
		errNoSchema, cause)
}

var errNoSchema = errors.New("the schema cannot be used")

// decodeAll decodes what arrives until stop closes, which is when every message has been answered.
func (r *route) decodeAll(stop <-chan struct{}) {
	for {
		select { // This one costs no lock of stop, which all decoders share.
		case it := <-r.incoming:
			r.take(it)
			continue
		default:
		}
		select {
		case it := <-r.incoming:
			r.take(it)
		case <-stop:
			return
		}
	}
}

// take decodes a message and hands it to its shard.
func (r *route) take(it *item) {
	defer r.arriving.leave()
	defer func() {
		if p := recover(); p != nil {
			r.logPanic(stageDecode, it.message.ID, p)
			it.answer(decodeError{errPanicked})
		}
	}()
	measured := r.observed.receive(it, r.ds)
	rec, err := r.decode(it.traced, it.message)
	it.submitted = r.deps.Now()
	if measured {
		r.observed.decoded(it)
	}
	if err != nil {
		it.answer(decodeError{err})
		return
	}
	r.passes()
	published := recordTime(it.message)
	it.published, it.row = published.UnixNano(), rec.Row(published)
	it.hash = maphash.String(r.seed, it.row.Key)
	it.entries = r.ds.IndexEntries(rec, it.row.Time)
	r.shardFor(it.hash).submit(it)
}
