package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/engine"
)

// lettersFile declares datasets without a time field, so that a row's time is when it was published.
func lettersFile(names ...string) string {
	text := "version: 1\nname: letters\ndatasets:\n"
	for _, name := range names {
		text += "  " + name + ":\n    fields:\n      code: {type: string, required: true}\n      n: {type: int64}\n    key: [code]\n"
	}
	return text
}

// listedLetter is what the tests read of dead-letters list -o json.
type listedLetter struct {
	ID        string    `json:"id"`
	Published time.Time `json:"published_at"`
	Reason    string    `json:"reason"`
	Error     string    `json:"error"`
	Data      string    `json:"data"`
}

func listLetters(t *testing.T, dir, dataset string) []listedLetter {
	t.Helper()
	var doc struct {
		Letters  []listedLetter `json:"letters"`
		Matched  int            `json:"matched"`
		Complete bool           `json:"complete"`
	}
	out := run(t, dir, nil, "dead-letters", "list", dataset, "--limit", "0", "-o", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Letters) != doc.Matched || !doc.Complete {
		t.Fatalf("list: %v\n%s", err, tail(out))
	}
	return doc.Letters
}

// publishBad publishes n records that break the declaration and waits for their letters. It returns
// when each was published, by its code.
func publishBad(t *testing.T, dir, dataset string, n int) map[string]time.Time {
	t.Helper()
	var records strings.Builder
	for i := range n {
		fmt.Fprintf(&records, `{"code":"k%d","n":"x"}`+"\n", i)
	}
	writeFile(t, dir, dataset+".ndjson", records.String())
	run(t, dir, nil, "publish", dataset, "-f", dataset+".ndjson")
	published := map[string]time.Time{}
	eventually(t, waitLimit, func() (bool, string) {
		letters := listLetters(t, dir, dataset)
		for _, l := range letters {
			var record struct{ Code string }
			if err := json.Unmarshal([]byte(l.Data), &record); err != nil {
				t.Fatal(err)
			}
			published[record.Code] = l.Published
		}
		return len(letters) >= n, fmt.Sprintf("%d of %d letters", len(letters), n)
	})
	return published
}

// checkReplayed waits until each record is one row, with one version of each cell, at the time of its
// first publish.
func checkReplayed(t *testing.T, r ready, dataset string, published map[string]time.Time, value string) {
	t.Helper()
	conn, err := grpc.NewClient(r.Bigtable, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, err := bigtable.NewClientWithConfig(t.Context(), r.Project, r.Instance, bigtable.ClientConfig{
		MetricsProvider: bigtable.NoopMetricsProvider{}, DisableDirectAccess: true, DisableSession: true,
	}, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	eventually(t, waitLimit, func() (bool, string) {
		rows := 0
		err := client.Open(dataset).ReadRows(t.Context(), bigtable.InfiniteRange(""), func(row bigtable.Row) bool {
			rows++
			cells := map[string]string{}
			var times []time.Time
			for _, items := range row {
				for _, item := range items {
					column := strings.TrimPrefix(item.Column, "d:")
					if cells[column] != "" {
						t.Errorf("%s: row %q has two versions of %s", dataset, row.Key(), column)
					}
					cells[column] = string(item.Value)
					times = append(times, item.Timestamp.Time())
				}
			}
			want, known := published[cells["code"]]
			if want = want.Truncate(time.Millisecond); !known || cells["n"] != value {
				t.Errorf("%s: row %q holds %v", dataset, row.Key(), cells)
			}
			for _, at := range times {
				if !want.IsZero() && !at.Equal(want) {
					t.Errorf("%s: row %q has a cell at %v, it was published at %v", dataset, row.Key(), at, want)
				}
			}
			return !t.Failed()
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows == len(published) || t.Failed(), fmt.Sprintf("%d of %d rows of %s", rows, len(published), dataset)
	})
}

// interceptor is Pub/Sub with a point at which it stops answering, so that a test can kill the
// program exactly there.
type interceptor struct {
	pubsubpb.UnimplementedPublisherServer
	pubsubpb.UnimplementedSubscriberServer
	publisher  pubsubpb.PublisherClient
	subscriber pubsubpb.SubscriberClient
	point      string
	arrived    chan struct{}
	once       sync.Once
}

// hold stops at the point for as long as the caller lives.
func (i *interceptor) hold(ctx context.Context, point string) {
	if i.point != point {
		return
	}
	i.once.Do(func() { close(i.arrived) })
	<-ctx.Done()
}

func (i *interceptor) Publish(ctx context.Context, req *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	i.hold(ctx, "before the publish")
	resp, err := i.publisher.Publish(ctx, req)
	i.hold(ctx, "before its answer")
	return resp, err
}

func (i *interceptor) Pull(ctx context.Context, req *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	return i.subscriber.Pull(ctx, req)
}

func (i *interceptor) ModifyAckDeadline(ctx context.Context, req *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	return i.subscriber.ModifyAckDeadline(ctx, req)
}

func (i *interceptor) Acknowledge(ctx context.Context, req *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	i.hold(ctx, "before the acknowledgement")
	resp, err := i.subscriber.Acknowledge(ctx, req)
	i.hold(ctx, "after the acknowledgement")
	return resp, err
}

// intercept starts an interceptor in front of a Pub/Sub and returns its address.
func intercept(t *testing.T, pubsub, point string) (*interceptor, string) {
	t.Helper()
	conn, err := grpc.NewClient(pubsub, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	i := &interceptor{publisher: pubsubpb.NewPublisherClient(conn), subscriber: pubsubpb.NewSubscriberClient(conn), point: point, arrived: make(chan struct{})}
	server := grpc.NewServer()
	pubsubpb.RegisterPublisherServer(server, i)
	pubsubpb.RegisterSubscriberServer(server, i)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		_ = conn.Close()
	})
	return i, l.Addr().String()
}

// TestReplayKilled kills replay at each point of its way and runs it again: each record is one row
// with the cells that one replay would have given it, and no letter is left or lost.
func TestReplayKilled(t *testing.T) {
	t.Parallel()
	points := map[string]string{"one": "before the publish", "two": "before its answer", "three": "before the acknowledgement", "four": "after the acknowledgement"}
	dir := t.TempDir()
	writeFile(t, dir, "latam.yaml", lettersFile("one", "two", "three", "four"))
	_, r := startUp(t, dir, "--engine", "memory", "--max-reject-share", "1")
	const letters = 1200
	published := map[string]map[string]time.Time{}
	for dataset, point := range points {
		published[dataset] = publishBad(t, dir, dataset, letters)
		i, addr := intercept(t, r.Pubsub, point)
		p := start(t, dir, []string{"PUBSUB_EMULATOR_HOST=" + addr}, "dead-letters", "replay", dataset, "--all", "--set", "n=7")
		select {
		case <-i.arrived:
		case <-p.ended:
			t.Fatalf("%s: replay ended by itself:\n%s", point, tail(p.stderr.String()))
		case <-time.After(waitLimit):
			t.Fatalf("%s: replay did not come there", point)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
	}
	for dataset, point := range points {
		// What the killed one held comes back when its lease ends.
		eventually(t, waitLimit, func() (bool, string) {
			out := run(t, dir, nil, "dead-letters", "replay", dataset, "--all", "--set", "n=7", "-o", "json")
			left := listLetters(t, dir, dataset)
			rows := len(walk(t, r.API, dataset, map[string][]string{}))
			return len(left) == 0 && rows == letters, fmt.Sprintf("killed %s: %d rows, %d letters left, last run: %s", point, rows, len(left), tail(out))
		})
		checkReplayed(t, r, dataset, published[dataset], "7")
	}
}

// TestTwoReplaysAtOnce: neither fails, and each record is one row.
func TestTwoReplaysAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir, "latam.yaml", lettersFile("events"))
	_, r := startUp(t, dir, "--engine", "memory", "--max-reject-share", "1")
	published := publishBad(t, dir, "events", 3000)
	var both [2]*program
	for i := range both {
		both[i] = start(t, dir, nil, "dead-letters", "replay", "events", "--all", "--set", "n=7", "-o", "json")
	}
	total := 0
	for i, p := range both {
		var doc struct{ Published, Matched int }
		select {
		case line := <-p.stdout.out:
			if err := json.Unmarshal([]byte(line), &doc); err != nil {
				t.Fatalf("%v\n%s", err, tail(line))
			}
		case <-time.After(waitLimit):
			t.Fatal("replay did not end")
		}
		if err := <-p.done; err != nil {
			t.Errorf("replay %d: %v\n%s", i, err, tail(p.stderr.String()))
		} else {
			p.done <- nil
		}
		total += doc.Published
	}
	if total != len(published) {
		t.Errorf("both have published %d records of %d", total, len(published))
	}
	checkReplayed(t, r, "events", published, "7")
	// A third one with nothing to do changes nothing.
	run(t, dir, nil, "dead-letters", "replay", "events", "--all", "--set", "n=8")
	checkReplayed(t, r, "events", published, "7")
}

// TestLettersOfOthers: what Pub/Sub itself has forwarded can be replayed, a record with two letters is
// published once, and what was cut stays.
func TestLettersOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir, "latam.yaml", lettersFile("events"))
	_, r := startUp(t, dir, "--engine", "memory", "--max-reject-share", "1")
	eng, err := engine.Start(t.Context(), engine.Options{Kind: engine.Emulator, PubsubAddr: r.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	client, err := bus.Open(t.Context(), bus.Options{Project: r.Project, Client: eng.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond).UTC()
	twice := map[string]string{bus.AttrReason: "wrong_type", bus.AttrMessageID: "77", bus.AttrPublishTime: at.Format(time.RFC3339Nano), "event_id": "e"}
	cut := map[string]string{bus.AttrReason: "oversize", bus.AttrMessageID: "78", bus.AttrDataBytes: "20000000"}
	for data, attributes := range map[string]map[string]string{
		`{"code":"native","n":1}`: {"CloudPubSubDeadLetterSourceDeliveryCount": "20", "CloudPubSubDeadLetterSourceSubscription": "events-ingest", "CloudPubSubDeadLetterSourceTopicPublishTime": at.Format("2006-01-02T15:04:05.000-07:00")},
		`{"code":"twice","n":1}`:  twice,
		`{"code":"twice","n":1} `: twice,
		`{"code":"cut","n":1`:     cut,
		`{"code":"other","n":1}`:  nil,
	} {
		if _, err := client.Publish(t.Context(), "events-dead", []byte(data), attributes); err != nil {
			t.Fatal(err)
		}
	}
	reasons := map[string]int{}
	for _, l := range listLetters(t, dir, "events") {
		reasons[l.Reason]++
		if l.Reason == "undeliverable" && (!l.Published.Equal(at) || !strings.Contains(l.Error, "after 20 deliveries from events-ingest")) {
			t.Errorf("forwarded letter: %+v", l)
		}
	}
	if fmt.Sprint(reasons) != "map[oversize:1 undeliverable:1 unknown:1 wrong_type:2]" {
		t.Errorf("reasons %v", reasons)
	}
	if out := run(t, dir, nil, "dead-letters", "show", "events", "77"); !strings.Contains(out, "2 letters of this record") || !strings.Contains(out, "event_id: e") {
		t.Errorf("show of a record with two letters:\n%s", out)
	}
	if out := run(t, dir, nil, "dead-letters", "show", "events", "78"); !strings.Contains(out, "it cannot be replayed") || !strings.Contains(out, "of its 20000000 bytes") {
		t.Errorf("show of one that was cut:\n%s", out)
	}
	out := run(t, dir, nil, "dead-letters", "replay", "events", "77")
	if !strings.Contains(out, "1 record published to events, 1 further letters of them") {
		t.Errorf("replay of a record with two letters said %q", out)
	}
	p := start(t, dir, nil, "dead-letters", "replay", "events", "--all", "--force")
	if err := <-p.done; err == nil || !strings.Contains(p.stderr.String(), "78 kept: only the first 19 of its 20000000 bytes") {
		t.Errorf("replay of all: %v\n%s", err, p.stderr.String())
	}
	p.done <- nil
	checkReplayed(t, r, "events", map[string]time.Time{"native": at, "twice": at, "other": {}}, "1")
}

// TestDeadLettersOnGooglesEmulators: looking, correcting and dropping work on the Cloud SDK's
// emulators as on the engine of up.
func TestDeadLettersOnGooglesEmulators(t *testing.T) {
	t.Parallel()
	e := startEmulators(t)
	dir := t.TempDir()
	writeFile(t, dir, "latam.yaml", lettersFile("events"))
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	start(t, dir, e.env(), "ingest", "--admin", admin)
	awaitReady(t, "http://"+admin)
	var records strings.Builder
	for i := range 50 {
		fmt.Fprintf(&records, `{"code":"k%d","n":"x"}`+"\n", i)
	}
	writeFile(t, dir, "bad.ndjson", records.String()+"{}\n")
	run(t, dir, e.env(), "publish", "events", "-f", "bad.ndjson")
	settled(t, "http://"+admin, "rejected", 51)
	list := func(want string) {
		t.Helper()
		eventually(t, waitLimit, func() (bool, string) {
			out := run(t, dir, e.env(), "dead-letters", "list", "events", "--summary", "-o", "json")
			return strings.Contains(out, want), out
		})
	}
	list(`"matched":51`)
	list(`"matched":51`) // Looking has taken nothing away.
	out := run(t, dir, e.env(), "dead-letters", "replay", "events", "--reason", "wrong_type", "--set", "n=7")
	if !strings.Contains(out, "50 records published to events") {
		t.Errorf("replay said %q", out)
	}
	settled(t, "http://"+admin, "ok", 50)
	list(`"matched":1`)
	run(t, dir, e.env(), "dead-letters", "replay", "events", "--all", "--drop", "--yes")
	list(`"matched":0`)
}
