package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/payload"
	"github.com/latamctl/latamctl/pkg/proc"
)

func TestReadDeadLetter(t *testing.T) {
	t.Parallel()
	rejected := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	first := time.Date(2026, 11, 23, 2, 59, 59, 123000000, time.UTC)
	forwarded := map[string]string{
		attrForwarded + "DeliveryCount": "20", attrForwarded + "Subscription": "things-ingest", attrForwarded + "SubscriptionProject": "p",
		attrForwarded + "TopicPublishTime": "2026-11-22T23:59:59.123-03:00",
	}
	with := func(base map[string]string, more ...string) map[string]string {
		all := map[string]string{}
		for k, v := range base {
			all[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for _, tc := range []struct {
		name  string
		attrs map[string]string
		want  deadLetter
	}{
		{"of ingest", map[string]string{
			bus.AttrMessageID: "7", bus.AttrStage: "decode", bus.AttrReason: "range", bus.AttrField: "n", bus.AttrError: "range: field n: no", bus.AttrAttempt: "3",
			bus.AttrPublishTime: first.Format(time.RFC3339Nano), bus.AttrSubscription: "things-ingest", "event_id": "e", "latam.future": "x",
		}, deadLetter{ID: "7", Published: first, Stage: "decode", Reason: "range", Field: "n", Error: "range: field n: no", Deliveries: 3, Attributes: map[string]string{"event_id": "e"}}},
		{"cut", map[string]string{bus.AttrMessageID: "7", bus.AttrReason: "oversize", bus.AttrDataBytes: "12000000"},
			deadLetter{ID: "7", Published: rejected, Reason: "oversize", CutFrom: 12000000, Attributes: map[string]string{}}},
		{"of Pub/Sub", with(forwarded, "event_id", "e", "googclient_schemaencoding", "JSON"),
			deadLetter{ID: "99", Published: first, Reason: "undeliverable", Deliveries: 20, Attributes: map[string]string{"event_id": "e"},
				Error: "Pub/Sub gave up after 20 deliveries from things-ingest: each was given back or not answered"}},
		{"of Pub/Sub with its error", with(forwarded, attrForwarded+"DeliveryErrorMessage", "no"),
			deadLetter{ID: "99", Published: first, Reason: "undeliverable", Deliveries: 20, Attributes: map[string]string{},
				Error: "Pub/Sub gave up after 20 deliveries from things-ingest: each was given back or not answered; the last error: no"}},
		{"of Pub/Sub after a replay", with(forwarded, bus.AttrPublishTime, "2026-11-20T00:00:00Z"),
			deadLetter{ID: "99", Published: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), Reason: "undeliverable", Deliveries: 20, Attributes: map[string]string{},
				Error: "Pub/Sub gave up after 20 deliveries from things-ingest: each was given back or not answered"}},
		{"of somebody else", map[string]string{"a": "b"},
			deadLetter{ID: "99", Published: rejected, Reason: "unknown", Attributes: map[string]string{"a": "b"}, Error: "neither ingest nor Pub/Sub has sent it here: it has none of their attributes"}},
		{"with nonsense", map[string]string{bus.AttrReason: "range", bus.AttrPublishTime: "noon", bus.AttrAttempt: "x", bus.AttrDataBytes: "y"},
			deadLetter{ID: "99", Published: rejected, Reason: "range", Attributes: map[string]string{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.Rejected, tc.want.letterID, tc.want.data = rejected, "99", []byte("{}")
			got := readDeadLetter(bus.Message{ID: "99", PublishTime: rejected, Data: []byte("{}"), Attributes: tc.attrs})
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(deadLetter{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// box is a Pub/Sub with the dead letters of the dataset things, without an ingest.
type box struct {
	t      *testing.T
	addr   string
	client *bus.Client
	ds     *dataset.Dataset
}

func openBox(t *testing.T) *box {
	t.Helper()
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := bus.Open(t.Context(), bus.Options{Project: localProject, Client: e.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(client.Close(), e.Close()) })
	b := &box{t: t, addr: e.PubsubAddr, client: client, ds: loadThings(t)}
	if err := client.Ensure(t.Context(), bus.RouteOf(b.ds)); err != nil {
		t.Fatal(err)
	}
	return b
}

// reject puts a letter into the box.
func (b *box) reject(id, reason, field, data string, more ...string) {
	b.t.Helper()
	attributes := map[string]string{bus.AttrMessageID: id, bus.AttrStage: "decode", bus.AttrReason: reason, bus.AttrField: field, bus.AttrError: "decode: " + reason + ": field " + field + ": it was wrong"}
	for i := 0; i < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	if _, err := b.client.Publish(b.t.Context(), b.ds.DeadLetterTopic(), []byte(data), attributes); err != nil {
		b.t.Fatal(err)
	}
}

// messages looks a subscription through.
func (b *box) messages(sub string) (found []bus.Message) {
	b.t.Helper()
	letters := b.client.Letters(sub, bus.LettersOptions{EmptyAnswers: 1})
	defer func() { _ = letters.Close() }()
	for {
		page, err := letters.Next(b.t.Context())
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			b.t.Fatal(err)
		}
		found = append(found, page...)
	}
}

// left are the ids of the letters that nobody holds.
func (b *box) left() (ids []string) {
	for _, m := range b.messages(b.ds.DeadLetterSubscription()) {
		ids = append(ids, m.Attributes[bus.AttrMessageID])
	}
	slices.Sort(ids)
	return ids
}

// writer is a buffer that may be read while it is written.
type writer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *writer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// called is a run of the program on a box.
type called struct {
	out, err writer
	code     chan int
}

// begin runs dead-letters with a person at a terminal who types what in has.
func (b *box) begin(in io.Reader, line ...string) *called {
	b.t.Helper()
	c := &called{code: make(chan int, 1)}
	p := &proc.Process{
		Args: append([]string{"dead-letters"}, line...), Dir: b.t.TempDir(), In: in, Out: &c.out, Err: &c.err, InTerminal: true, ErrTerminal: true, Now: time.Now,
		Getenv: func(key string) (string, bool) {
			v, ok := map[string]string{pubsubHostVar: b.addr, "NO_COLOR": "1"}[key]
			return v, ok
		},
		Exit: func(int) {},
	}
	if err := p.WriteFile("latam.yaml", []byte(everyType)); err != nil {
		b.t.Fatal(err)
	}
	go func() { c.code <- mainWith(p, nil) }()
	return c
}

func (b *box) call(want int, line ...string) (out, errs string) {
	b.t.Helper()
	c := b.begin(strings.NewReader(""), line...)
	if code := <-c.code; code != want {
		b.t.Errorf("dead-letters %v: exit %d, want %d\n%s%s", line, code, want, c.out.String(), c.err.String())
	}
	return c.out.String(), c.err.String()
}

// TestDropAsks: what is to be dropped is held while a person thinks, what is not is there for others,
// and only the right answer drops.
func TestDropAsks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer string
		code         int
		left         []string
	}{
		{"yes", "things\n", exitOK, []string{"3"}},
		{"no", "n\n", exitFailed, []string{"1", "2", "3"}},
		{"y is not the name", "y\n", exitFailed, []string{"1", "2", "3"}},
		{"end of input", "", exitFailed, []string{"1", "2", "3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := openBox(t)
			b.reject("1", "range", "n", `{"code":"a","n":-1}`)
			b.reject("2", "range", "n", `{"code":"b","n":-1}`)
			b.reject("3", "bad_json", "", `{`)
			in, answer := io.Pipe()
			c := b.begin(in, "replay", "things", "--reason", "range", "--drop")
			for !strings.Contains(c.err.String(), "Drop 2 dead letters of things for good? Type the name of the dataset") {
				select {
				case code := <-c.code:
					t.Fatalf("it ended with %d: %s", code, c.err.String())
				case <-time.After(5 * time.Millisecond):
				}
			}
			if got := b.left(); !slices.Equal(got, []string{"3"}) {
				t.Errorf("while it asks, others see %v", got)
			}
			_, _ = io.WriteString(answer, tc.answer)
			_ = answer.Close()
			if code := <-c.code; code != tc.code {
				t.Errorf("exit %d, want %d: %s", code, tc.code, c.err.String())
			}
			if got := b.left(); !slices.Equal(got, tc.left) {
				t.Errorf("left are %v, want %v", got, tc.left)
			}
			if sent := b.messages(b.ds.Subscription()); len(sent) > 0 {
				t.Errorf("%d records were published", len(sent))
			}
		})
	}
}

// TestReplayPublishes: the record goes out with its own attributes and nothing else of the letter.
func TestReplayPublishes(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	b.reject("1", "range", "n", `{"code":"a",  "n":-1}`, "event_id", "e", bus.AttrPublishTime, "2026-11-23T01:02:03.5Z", "content-type", "x")
	b.reject("2", "unknown_field", "x", `{"code":"b","x":1}`)
	b.reject("3", "wrong_type", "n", "\x1f\x8b", bus.AttrSchema, "projects/"+localProject+"/schemas/gone@1", bus.AttrEncoding, "BINARY")
	packed, err := payload.Pack(payload.Zstd, []byte(`{"code":"d","n":-1}`))
	if err != nil {
		t.Fatal(err)
	}
	b.reject("4", "range", "n", string(packed), "content-encoding", "zstd")
	_, errs := b.call(exitFailed, "replay", "things", "1", "2", "3", "4", "--set", "n=4")
	for _, want := range []string{
		"2 kept: would be rejected again: unknown_field: field x",
		"3 kept: cannot be changed: ",
		"2 of 4 dead letters kept back",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("it did not say %q:\n%s", want, errs)
		}
	}
	sent := b.messages(b.ds.Subscription())
	slices.SortFunc(sent, func(a, b bus.Message) int { return bytes.Compare(a.Data, b.Data) })
	if len(sent) != 2 || string(sent[0].Data) != `{"code":"a","n":4}` || string(sent[1].Data) != `{"code":"d","n":4}` {
		t.Fatalf("published: %v", sent)
	}
	if sent[1].Attributes["content-encoding"] != "" {
		t.Errorf("plain JSON was published as %v", sent[1].Attributes)
	}
	want := map[string]string{"event_id": "e", "content-type": "x", bus.AttrPublishTime: "2026-11-23T01:02:03.5Z"}
	if diff := cmp.Diff(want, sent[0].Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	// Without a change, what cannot be read here goes out as it is.
	out, _ := b.call(exitOK, "replay", "things", "3")
	if !strings.Contains(out, "1 record published to things, 1 not checked") {
		t.Errorf("it said %q", out)
	}
	sent = b.messages(b.ds.Subscription())
	if i := slices.IndexFunc(sent, func(m bus.Message) bool { return string(m.Data) == "\x1f\x8b" }); i < 0 {
		t.Errorf("published: %v", sent)
	}
	if got := b.left(); !slices.Equal(got, []string{"2"}) {
		t.Errorf("left are %v", got)
	}
}

// TestReplayRefusedByTopic: a record that the topic does not take, such as an empty one, keeps no
// other from it.
func TestReplayRefusedByTopic(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	d, err := dataset.Load("latam.yaml", []byte(everyType))
	if err != nil {
		t.Fatal(err)
	}
	b.ds = d.Dataset("timed")
	if err := b.client.Ensure(t.Context(), bus.RouteOf(b.ds)); err != nil {
		t.Fatal(err)
	}
	b.reject("1", "range", "at", `{"code":"a","at":"2026-11-23T01:02:03Z"}`, bus.AttrPublishTime, "2026-11-23T01:02:03Z")
	b.reject("2", "bad_json", "", "")
	b.reject("3", "range", "at", `{"code":"c","at":"2026-11-23T01:02:03Z"}`)
	_, errs := b.call(exitFailed, "replay", "timed", "--all", "--force")
	if !strings.Contains(errs, "2 kept: the topic does not take it: ") {
		t.Errorf("it said %q", errs)
	}
	if got := b.left(); !slices.Equal(got, []string{"2"}) {
		t.Errorf("left are %v", got)
	}
	sent := b.messages(b.ds.Subscription())
	if len(sent) != 2 {
		t.Errorf("published: %v", sent)
	}
	for _, m := range sent {
		if len(m.Attributes) > 0 {
			t.Errorf("where the record has its own time, attributes %v went along", m.Attributes)
		}
	}
}

// TestLettersWithoutBox: errors of Pub/Sub say what to do.
func TestLettersWithoutBox(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	b.addr = "127.0.0.1:1"
	if _, errs := b.call(exitUnavailable, "list", "things"); !strings.Contains(errs, "nothing listens on 127.0.0.1:1") {
		t.Errorf("it said %q", errs)
	}
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b.addr = e.PubsubAddr
	for _, line := range [][]string{{"list", "things"}, {"show", "things", "1"}, {"replay", "things", "--all"}} {
		if _, errs := b.call(exitFailed, line...); !strings.Contains(errs, "latamctl up and latamctl ingest create it") {
			t.Errorf("%v said %q", line, errs)
		}
	}
}

// TestShowSaysTheWayOn: each reason has commands that the program has.
func TestShowSaysTheWayOn(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	for _, tc := range []struct{ id, reason, field, data, want string }{
		{"1", "wrong_type", "n", `{"code":"a","n":"x"}`, "replay things 1 --set n=VALUE --dry-run"},
		{"2", "missing_field", "code", `{"n":1}`, "replay things 2 --set code=VALUE --dry-run"},
		{"3", "unknown_field", "notes", `{"code":"a","notes":1}`, "replay things 3 --unset notes --set note=VALUE"},
		{"4", "unknown_field", "zzzzzz", `{"code":"a","zzzzzz":1}`, "replay things 4 --unset zzzzzz"},
		{"5", "unknown_field", "a b", `{"code":"a","a b":1}`, "replay things 5 --unset 'a b'"},
		{"6", "bad_json", "", "\xff\xfe", "latamctl publish things -f FILE"},
		{"7", "range", "n", `{"code":"a","n":1}`, "dead-letters replay things 7"},
		{"8", "duplicate_field", "n", `{"code":"a","n":1,"n":1}`, "replay things 8 --unset n"},
		{"9", "key_too_long", "", `{"code":"` + strings.Repeat("k", 5000) + `"}`, "replay things 9 --drop"},
		{"10", "news", "", `[]`, "replay things 10 --drop"},
	} {
		b.reject(tc.id, tc.reason, tc.field, tc.data)
		out, _ := b.call(exitOK, "show", "things", tc.id)
		if !strings.Contains(out, tc.want) {
			t.Errorf("show of %s: no %q in\n%s", tc.data, tc.want, out)
		}
		out, _ = b.call(exitOK, "show", "things", tc.id, "-o", "json")
		var doc shownLetter
		if err := json.Unmarshal([]byte(out), &doc); err != nil {
			t.Fatal(err)
		}
		for _, step := range doc.Next {
			if !strings.HasPrefix(step, "latamctl ") {
				continue
			}
			if err := checkCommand(strings.ReplaceAll(step, "'a b'", "x")); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
		if got := doc.Letter.Data; tc.id != "6" && (got == nil || *got != tc.data) || tc.id == "6" && string(doc.Letter.DataBase64) != tc.data {
			t.Errorf("the payload of %s is %+v", tc.id, doc.Letter)
		}
	}
}

// TestListCounts compares the counts and the newest letters with what was put in.
func TestListCounts(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	want := map[string]int{}
	for i := range 230 {
		reason, field := []string{"range", "wrong_type", "pattern"}[i%7%3], []string{"n", "f"}[i%2]
		want[reason+" "+field]++
		b.reject(fmt.Sprint(1000+i), reason, field, `{"code":"a"}`)
	}
	out, _ := b.call(exitOK, "list", "things", "--limit", "10", "-o", "json")
	var doc struct {
		Letters        []letterDocument
		Matched, Shown int
		Groups         []letterGroup
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, g := range doc.Groups {
		got[g.Reason+" "+g.Field] = g.Letters
		if g.Accepted != g.Letters {
			t.Errorf("%d of %d are accepted now, all would be", g.Accepted, g.Letters)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || doc.Matched != 230 || doc.Shown != 10 {
		t.Errorf("%d matched, %d shown, groups:\n%s", doc.Matched, doc.Shown, diff)
	}
	for i, l := range doc.Letters {
		if l.ID != fmt.Sprint(1220+i) {
			t.Errorf("letter %d of the newest is %s", i, l.ID)
		}
	}
	out, errs := b.call(exitOK, "list", "things", "--limit", "10")
	if !strings.Contains(out, "it was wrong\n") || strings.Contains(out, "decode:") || !strings.Contains(errs, "publishes the 230 that the declaration accepts now") {
		t.Errorf("list said\n%s%s", out, errs)
	}
}

func TestInterruptedLookGivesBack(t *testing.T) {
	t.Parallel()
	b := openBox(t)
	b.reject("1", "range", "n", `{"code":"a"}`)
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{proc: &proc.Process{Err: io.Discard, Now: time.Now}, log: nil}
	look := &letterBox{app: a, ds: b.ds, client: b.client, letters: b.client.Letters(b.ds.DeadLetterSubscription(), bus.LettersOptions{}), done: func() {}}
	err := look.all(ctx, func([]deadLetter) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	look.close()
	if got := b.left(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("left are %v", got)
	}
}

// packed reads payloads that are the JSON in parentheses.
type packed struct{}

func (packed) JSON(_ context.Context, data []byte, attributes map[string]string) ([]byte, error) {
	if attributes[attrSchemaName] == "projects/p/schemas/s" && (attributes[attrSchemaRevision] != "4f" || attributes[attrSchemaEncoding] != "BINARY") {
		return nil, errors.New("the schema is away")
	}
	if !bytes.HasPrefix(data, []byte("(")) {
		return nil, &dataset.RejectError{Reason: dataset.ReasonBadEncoding, Detail: "no parentheses"}
	}
	return bytes.Trim(data, "()"), nil
}

// TestEncodedPayloads: what is not changed goes out as it came; what is, as plain JSON.
func TestEncodedPayloads(t *testing.T) {
	t.Parallel()
	b := &letterBox{ds: loadThings(t), app: &app{proc: &proc.Process{Now: time.Now}}, payloads: packed{}}
	good := `({"code":"a","n":1})`
	zip := map[string]string{"Content-Encoding": "paren", "event_id": "e", bus.AttrReason: "range"}
	schema := map[string]string{bus.AttrReason: "range", attrLetterSchema: "projects/p/schemas/s@4f", attrLetterEncoding: "BINARY"}
	native := map[string]string{attrForwarded + "Subscription": "s", attrSchemaName: "projects/p/schemas/s", attrSchemaRevision: "4f", attrSchemaEncoding: "BINARY"}
	away := map[string]string{bus.AttrReason: "range", attrLetterSchema: "projects/p/schemas/s@0"}
	set := []edit{{"n", []byte("2")}}
	for _, tc := range []struct {
		name, data string
		attributes map[string]string
		edits      []edit
		want       string
		wantEvent  string
		err        string
	}{
		{"as it was", good, zip, nil, good, "paren", ""},
		{"set", good, zip, set, `{"code":"a","n":2}`, "", ""},
		{"set to what it is", good, zip, []edit{{"n", []byte("1")}}, good, "paren", ""},
		{"unreadable", `{`, zip, nil, "", "", "would be rejected again: bad_encoding"},
		{"unreadable and set", `{`, zip, set, "", "", "cannot be changed: bad_encoding"},
		{"schema as it was", good, schema, nil, good, "", ""},
		{"schema set", good, schema, set, `{"code":"a","n":2}`, "", ""},
		{"schema of Pub/Sub's letter", good, native, set, `{"code":"a","n":2}`, "", ""},
		{"schema away", good, away, nil, good, "", ""},
		{"schema away and set", good, away, set, "", "", "cannot be changed: the schema is away"},
		{"still wrong", `({"code":"a","x":1})`, zip, set, "", "", "would be rejected again: unknown_field"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := readDeadLetter(bus.Message{ID: "1", PublishTime: time.Now(), Data: []byte(tc.data), Attributes: tc.attributes})
			r := &letterReplay{app: b.app, box: b, edits: tc.edits}
			item, err := r.prepare(t.Context(), &l)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m := item.message; string(m.Data) != tc.want || m.Attributes["Content-Encoding"] != tc.wantEvent || m.Attributes[attrSchemaName] != "" {
				t.Errorf("published %s with %v", m.Data, m.Attributes)
			}
		})
	}
}

// TestHintsAreWhole: a command that is to be copied works on the same letters.
func TestHintsAreWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		global  globalOptions
		dataDir string
		want    string
	}{
		{globalOptions{env: localEnv}, defaultDataDir, "latamctl dead-letters list things"},
		{globalOptions{env: "prod", config: "my file.yaml"}, "", "latamctl dead-letters list things --config 'my file.yaml' --env prod"},
		{globalOptions{env: localEnv}, "/tmp/x", "latamctl dead-letters list things --data-dir /tmp/x"},
	} {
		b := &letterBox{app: &app{global: tc.global}, ds: loadThings(t), dataDir: tc.dataDir}
		if got := b.command("list"); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}
