package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

const numberedDeclaration = `
version: 1
name: latam
datasets:
  notes:
    fields:
      number: {type: int64, required: true}
      text:   {type: string, required: true}
    key: [number]
`

// version is one version of a cell.
type version struct {
	at    time.Time
	value string
}

// storedNotes reads a table with every version of every cell: by key, then column.
func storedNotes(t *testing.T, r ready) map[string]map[string][]version {
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
	rows := map[string]map[string][]version{}
	err = client.Open("notes").ReadRows(t.Context(), bigtable.InfiniteRange(""), func(row bigtable.Row) bool {
		rows[row.Key()] = map[string][]version{}
		for _, items := range row {
			for _, item := range items {
				rows[row.Key()][item.Column] = append(rows[row.Key()][item.Column], version{item.Timestamp.Time(), string(item.Value)})
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// savedPosition is what a position file holds.
type savedPosition struct {
	At    time.Time
	Total int64
	File  int
	Files []any
}

func readPosition(t *testing.T, path string) (p savedPosition) {
	t.Helper()
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return p
	}
	if err != nil || json.Unmarshal(text, &p) != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return p
}

// TestKilledBackfillGoesOn kills a backfill at random points, each time checks that all before its
// position is stored, and lets the last run end.
func TestKilledBackfillGoesOn(t *testing.T) {
	t.Parallel()
	seed := fromEnv(t, crashSeedVar, rand.Uint64())
	t.Logf("%s=%d", crashSeedVar, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	const total, poisonEvery = 40_000, 400
	var file bytes.Buffer
	for n := range total {
		if n%poisonEvery == 7 {
			fmt.Fprintf(&file, "{\"number\":%d}\n", n)
		} else {
			fmt.Fprintf(&file, "{\"number\":%d,\"text\":\"text %d\"}\n", n, n)
		}
	}
	for name, content := range map[string][]byte{"latam.yaml": []byte(numberedDeclaration), "notes.ndjson": file.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, r := startUp(t, dir)
	args := []string{"backfill", "notes", "-f", "notes.ndjson", "--yes", "--no-check", "--position", "position.json", "--rejects", "rejects.ndjson"}
	kills, last := 0, savedPosition{}
	patience := time.Millisecond // A slow machine needs longer from kill to kill to come to an end at all.
	for last.Total < total*3/4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(150+rng.IntN(700))*patience) // It kills.
		cmd := command(ctx, t, dir, nil, append(args, "--rate", "20000")...)                       // Without it a run may be faster than its kill.
		out, err := cmd.CombinedOutput()
		cancel()
		if cmd.ProcessState.Success() {
			break // It was faster.
		}
		if cmd.ProcessState.Exited() {
			t.Fatalf("it was to be killed: %v: %s", err, out)
		}
		if kills++; kills > 200 {
			t.Fatalf("%d kills, and it has come to %d", kills, last.Total)
		}
		p, rows := readPosition(t, filepath.Join(dir, "position.json")), storedNotes(t, r)
		healthy := 0
		for n := range p.Total {
			if n%poisonEvery != 7 {
				healthy++
			}
		}
		if p.Total < last.Total || len(rows) < healthy {
			t.Errorf("kill %d: the position is %d after %d, and there are %d rows of %d", kills, p.Total, last.Total, len(rows), healthy)
		}
		if p.Total-last.Total < total/40 {
			patience += patience / 4
		}
		last = p
	}
	if kills == 0 {
		t.Error("nothing was killed")
	}
	out := run(t, dir, nil, args...)
	p, rows := readPosition(t, filepath.Join(dir, "position.json")), storedNotes(t, r)
	if p.Total != total || p.File != 1 || len(rows) != total-total/poisonEvery {
		t.Errorf("%d rows, position %+v: %s", len(rows), p, out)
	}
	for key, columns := range rows {
		text := columns["d:text"]
		if len(columns) != 2 || len(columns["d:number"]) != 1 || len(text) != 1 || text[0].value != "text "+columns["d:number"][0].value || text[0].at.UnixMilli() != p.At.UnixMilli() {
			t.Fatalf("row %q has %v", key, columns)
		}
	}
	rejects, err := os.ReadFile(filepath.Join(dir, "rejects.ndjson"))
	if lines := strings.Count(string(rejects), "\n"); err != nil || lines != total/poisonEvery {
		t.Errorf("%d rejected records, %v", lines, err)
	}
	for n := 7; n < total; n += poisonEvery {
		if strings.Count(string(rejects), fmt.Sprintf(`"record":%d,`, n+1)) != 1 {
			t.Errorf("record %d is not among those that were rejected, or twice", n+1)
		}
	}
	t.Logf("%d kills", kills)
}

// TestBackfillFromCloudStorage reads objects by a pattern over connections that break, and does not go
// on with an object that was replaced.
func TestBackfillFromCloudStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(numberedDeclaration), 0o644); err != nil {
		t.Fatal(err)
	}
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("archive", "my-project", nil)
	var one, two bytes.Buffer
	for n := range 5000 {
		fmt.Fprintf(&one, "{\"number\":%d,\"text\":\"text %d\"}\n", n, n)
		fmt.Fprintf(&two, "%d,text %d\n", 5000+n, n)
	}
	s.Put("archive", "notes/1.ndjson", one.Bytes())
	s.Put("archive", "notes/2.csv", append([]byte("number,text\n"), two.Bytes()...))
	s.Put("archive", "notes/readme.txt", []byte("not this one"))
	for range 4 {
		s.Inject(gcstest.Fault{Path: "notes/1.ndjson", Times: 2, CutBody: true})
		s.Inject(gcstest.Fault{Path: "notes", Times: 2, Status: http.StatusServiceUnavailable})
	}
	_, r := startUp(t, dir)
	args := []string{"backfill", "notes", "-f", "gs://archive/notes/[0-9].*", "--yes", "--position", "p.json", "--storage-endpoint", s.URL, "-o", "json"}
	if out := run(t, dir, nil, args...); !strings.Contains(out, `"complete":true`) || !strings.Contains(out, `"stored":10000,`) || len(storedNotes(t, r)) != 10_000 {
		t.Errorf("%d rows: %s", len(storedNotes(t, r)), out)
	}
	s.Put("archive", "notes/2.csv", []byte("number,text\n1,other\n"))
	var exit *exec.ExitError
	out, err := command(t.Context(), t, dir, nil, args...).CombinedOutput()
	if !asExit(err, &exit) || exit.ExitCode() != 8 || !strings.Contains(string(out), "gs://archive/notes/2.csv has changed since") {
		t.Errorf("%v: %s", err, out)
	}
	s.DenyBucket("archive")
	out, err = command(t.Context(), t, dir, nil, args...).CombinedOutput()
	if !asExit(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("%v: %s", err, out)
	}
}

func asExit(err error, exit **exec.ExitError) bool {
	return errors.As(err, exit)
}
