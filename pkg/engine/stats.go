package engine

import (
	"path"
	"time"
)

// Stats is what an engine of this process holds. Names are ids without their project or instance.
type Stats struct {
	DiskBytes     int64               `json:"table_disk_bytes"` // of all table files with their log
	Topics        []TopicStats        `json:"topics"`
	Subscriptions []SubscriptionStats `json:"subscriptions"`
	Tables        []TableStats        `json:"tables"`
}

// TopicStats is the stored log of one topic, acknowledged messages of kept segments included.
type TopicStats struct {
	Topic    string `json:"topic"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Segments int    `json:"segments"`
}

// SubscriptionStats is what a subscription still has to deliver or see acknowledged.
type SubscriptionStats struct {
	Subscription string    `json:"subscription"`
	Backlog      int64     `json:"backlog_messages"`
	BacklogBytes int64     `json:"backlog_bytes"`
	Outstanding  int64     `json:"outstanding"`
	Oldest       time.Time `json:"oldest_unacked,omitzero"` // publish time
}

// TableStats is one table; rows are counted while it is small and estimated from then on.
type TableStats struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
}

// Stats looks at the engine; ok is false when its servers run elsewhere.
func (e *Engine) Stats() (stats Stats, ok bool) {
	if e.topics == nil || e.cells == nil {
		return Stats{}, false
	}
	topics, cells := e.topics.Stats(), e.cells.Stats()
	stats.DiskBytes = int64(cells.DiskBytes)
	for _, t := range topics.Topics {
		stats.Topics = append(stats.Topics, TopicStats{Topic: path.Base(t.Topic), Messages: t.Messages, Bytes: t.Bytes, Segments: t.Segments})
	}
	for _, s := range topics.Subscriptions {
		stats.Subscriptions = append(stats.Subscriptions, SubscriptionStats{
			Subscription: path.Base(s.Subscription), Backlog: s.BacklogMessages, BacklogBytes: s.BacklogBytes, Outstanding: s.Outstanding, Oldest: s.OldestUnacked,
		})
	}
	for _, t := range cells.Tables {
		stats.Tables = append(stats.Tables, TableStats{Table: path.Base(t.Name), Rows: int64(t.Rows), Bytes: int64(t.Bytes)})
	}
	return stats, true
}
