package topiclog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// BenchmarkPublish publishes 100 messages of 300 bytes a call from 8
// goroutines to a log on disk.
func BenchmarkPublish(b *testing.B) {
	f := open(b, Options{Dir: b.TempDir()}).alpha()
	body := bytes.Repeat([]byte("x"), 300)
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			msgs := make([]*pubsubpb.PubsubMessage, 100)
			for i := range msgs {
				msgs[i] = &pubsubpb.PubsubMessage{Data: body}
			}
			if _, err := f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicA, Messages: msgs}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkPublishDelivered sends messages of 300 bytes through the official
// client: published durably, delivered by StreamingPull and acknowledged. It
// offers a rate, or as much as goes through, for 3 seconds.
func BenchmarkPublishDelivered(b *testing.B) {
	for _, rate := range []int{1_000, 10_000, 40_000, 0} {
		name := fmt.Sprintf("offered=%d", rate)
		if rate == 0 {
			name = "offered=max"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				publishDelivered(b, rate, 3*time.Second)
			}
		})
	}
}

func publishDelivered(b *testing.B, rate int, length time.Duration) {
	f := open(b, Options{Dir: b.TempDir()}).alpha()
	client := official(b, f.Server)
	ctx, cancel := context.WithTimeout(context.Background(), length+20*time.Second)
	defer cancel()
	var mu sync.Mutex
	var latencies []time.Duration
	var sent, received atomic.Int64
	var finished atomic.Bool
	sub := client.Subscriber(subA)
	sub.ReceiveSettings.MaxOutstandingMessages = 20_000
	sub.ReceiveSettings.NumGoroutines = 1
	stopped := make(chan error, 1)
	rctx, stop := context.WithCancel(ctx)
	go func() {
		stopped <- sub.Receive(rctx, func(_ context.Context, m *pubsub.Message) {
			d := time.Since(time.Unix(0, int64(binary.LittleEndian.Uint64(m.Data))))
			m.Ack()
			mu.Lock()
			latencies = append(latencies, d)
			mu.Unlock()
			received.Add(1)
		})
	}()
	pub := client.Publisher(topicA)
	pub.PublishSettings.DelayThreshold = time.Millisecond
	pub.PublishSettings.CountThreshold = 500
	pub.PublishSettings.FlowControlSettings.MaxOutstandingMessages = 20_000
	pub.PublishSettings.FlowControlSettings.LimitExceededBehavior = pubsub.FlowControlBlock
	start := time.Now()
	offer(ctx, pub, rate, length, &sent, &received)
	finished.Store(true)
	until(b, "all deliveries", func() bool { return received.Load() >= sent.Load() })
	elapsed := time.Since(start)
	stop()
	if err := <-stopped; err != nil {
		b.Fatal(err)
	}
	until(b, "all acknowledgements", func() bool { return f.Stats().Subscriptions[0].BacklogMessages == 0 })
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(latencies)
	b.ReportMetric(float64(sent.Load())/elapsed.Seconds(), "msgs/s")
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// offer publishes at a rate in steps of 1 ms. Without a rate it keeps 10,000
// messages under way.
func offer(ctx context.Context, pub *pubsub.Publisher, rate int, length time.Duration, sent, received *atomic.Int64) {
	start := time.Now()
	for time.Since(start) < length {
		due := received.Load() + 10_000
		if rate > 0 {
			due = int64(time.Since(start).Seconds() * float64(rate))
		}
		for sent.Load() < due {
			data := make([]byte, 300)
			binary.LittleEndian.PutUint64(data, uint64(time.Now().UnixNano()))
			pub.Publish(ctx, &pubsub.Message{Data: data})
			sent.Add(1)
		}
		time.Sleep(time.Millisecond)
	}
	pub.Flush()
}
