package topiclog

import (
	"fmt"
	"log/slog"
	"time"
)

// Options configures a Server. The zero value is a server in memory with the
// limits of the real service.
type Options struct {
	// Dir is the folder of the log, created when missing; "" keeps everything
	// in memory.
	Dir string
	// Now is the clock of publish times, leases and retention; nil means
	// time.Now.
	Now func() time.Time
	// Log receives what an operator should know; nil discards it.
	Log *slog.Logger

	// SegmentBytes is the size at which a segment file is closed and a new one
	// begun. Default 64 MiB, 1 MiB in memory.
	SegmentBytes int64
	// MaxRetention caps every retention setting, for small disks; a
	// subscription that asks for more is served with this. Default 31 days.
	MaxRetention time.Duration
	// TopicBytes is how much of its newest messages a topic keeps only because
	// its own retention says so, for small disks and quick starts; what a
	// subscription needs stays. Default 256 MiB, 16 MiB in memory.
	TopicBytes int64
	// MaxBatchMessages is the most messages of one StreamingPull response.
	// Default 500.
	MaxBatchMessages int
	// MaxBatchBytes is the size at which a response stops growing; one larger
	// message still travels alone. Default 1 MiB.
	MaxBatchBytes int
	// MaxOutstanding is how many messages a stream may hold that set no limit
	// itself, and how many later messages of blocked ordering keys a
	// subscription looks past. Default 20,000.
	MaxOutstanding int
	// CacheBytes is how much of the newest messages each topic keeps decoded
	// for subscriptions that keep up. Default 4 MiB.
	CacheBytes int64
	// PullWait is the longest a unary Pull waits for a first message. Default
	// 10 s.
	PullWait time.Duration
	// FlushInterval is how soon acknowledgements reach the disk. A crash of the
	// machine redelivers what was not flushed. Default 200 ms.
	FlushInterval time.Duration
	// SyncInterval is how often a flush also waits for the disk. Default 5 s.
	SyncInterval time.Duration
	// CollectInterval is how often retention is applied to idle topics.
	// Default 1 min.
	CollectInterval time.Duration
}

// Defaults returns o with every unset field filled in.
func (o Options) Defaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	segment, kept := int64(64<<20), int64(256<<20)
	if o.Dir == "" {
		segment, kept = 1<<20, 16<<20
	}
	setDefault(&o.SegmentBytes, segment)
	setDefault(&o.TopicBytes, kept)
	setDefault(&o.MaxRetention, maxRetention)
	setDefault(&o.MaxBatchMessages, 500)
	setDefault(&o.MaxBatchBytes, 1<<20)
	setDefault(&o.MaxOutstanding, 20_000)
	setDefault(&o.CacheBytes, 4<<20)
	setDefault(&o.PullWait, 10*time.Second)
	setDefault(&o.FlushInterval, 200*time.Millisecond)
	setDefault(&o.SyncInterval, 5*time.Second)
	setDefault(&o.CollectInterval, time.Minute)
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate reports the first setting that is out of range.
func (o Options) Validate() error {
	for _, c := range []struct {
		name           string
		got, low, high int64
	}{
		{"SegmentBytes", o.SegmentBytes, 4 << 10, 1 << 30},
		{"MaxRetention", int64(o.MaxRetention), int64(time.Second), int64(maxRetention)},
		{"TopicBytes", o.TopicBytes, 1, 1 << 50},
		{"MaxBatchMessages", int64(o.MaxBatchMessages), 1, 10_000},
		{"MaxBatchBytes", int64(o.MaxBatchBytes), 1, 16 << 20},
		{"MaxOutstanding", int64(o.MaxOutstanding), 1, 10_000_000},
		{"CacheBytes", o.CacheBytes, 1, 1 << 30},
		{"PullWait", int64(o.PullWait), 1, int64(10 * time.Minute)},
		{"FlushInterval", int64(o.FlushInterval), 1, int64(time.Hour)},
		{"SyncInterval", int64(o.SyncInterval), 1, int64(time.Hour)},
		{"CollectInterval", int64(o.CollectInterval), 1, int64(24 * time.Hour)},
	} {
		if c.got < c.low || c.got > c.high {
			return fmt.Errorf("topiclog option %s is %d, want %d to %d", c.name, c.got, c.low, c.high)
		}
	}
	return nil
}
