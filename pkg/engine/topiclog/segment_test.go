package topiclog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

// image is a segment file in memory with the ends of its records and the
// starts of its commits.
type image struct {
	data    []byte
	ends    []int
	commits []int
}

// makeImage builds a segment of commits with the given numbers of records.
func makeImage(rng *rand.Rand, commits ...int) image {
	var im image
	seq := uint64(0)
	for _, n := range commits {
		start := len(im.data)
		im.commits = append(im.commits, start)
		for range n {
			body, _ := proto.Marshal(&pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, "%d:%s", seq, bytes.Repeat([]byte("z"), rng.IntN(200)))})
			im.data = appendRecord(im.data, header{commit: uint32(start), seq: seq, id: seq + 1, time: int64(seq)}, body)
			im.ends = append(im.ends, len(im.data))
			seq++
		}
	}
	return im
}

// openImage opens a log of one segment with the given bytes. It returns the
// payloads read.
func openImage(t testing.TB, data []byte) (*messageLog, []string, error) {
	st := newMemStorage()
	st.files[segmentName("log", 0)] = &memFile{data: slices.Clone(data)}
	l, err := openLog(st, "log", Options{}.Defaults(), counter())
	if err != nil {
		return nil, nil, err
	}
	return l, readLog(t, l), nil
}

func TestTornTailIsCutAtEveryByte(t *testing.T) {
	t.Parallel()
	im := makeImage(rand.New(rand.NewPCG(1, 1)), 1, 3, 2, 4)
	for n := range im.data {
		l, got, err := openImage(t, im.data[:n])
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		whole, _ := slices.BinarySearch(im.ends, n+1)
		if len(got) != whole {
			t.Fatalf("cut at %d: %d records, want %d", n, len(got), whole)
		}
		mustAppend(t, l, "after")
		if got := readLog(t, l); len(got) != whole+1 || got[whole] != "after" {
			t.Fatalf("cut at %d: append after the cut gave %q", n, got)
		}
	}
}

// A flipped byte in a commit that a later commit proves to have been synced is
// damage, never a tail to cut; in the last commit it cannot be told from a
// torn write and is cut.
func TestFlippedByteIsNeverSkipped(t *testing.T) {
	t.Parallel()
	im := makeImage(rand.New(rand.NewPCG(2, 2)), 2, 3, 1, 3)
	lastCommit := im.commits[len(im.commits)-1]
	for at := range im.data {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			data := slices.Clone(im.data)
			data[at] ^= flip
			record, _ := slices.BinarySearch(im.ends, at+1)
			start := 0
			if record > 0 {
				start = im.ends[record-1]
			}
			_, got, err := openImage(t, data)
			if at >= lastCommit {
				if err != nil || len(got) != record {
					t.Fatalf("byte %d of the last commit: %d records, %v, want %d", at, len(got), err, record)
				}
				continue
			}
			var damaged *CorruptError
			if !errors.As(err, &damaged) {
				t.Fatalf("byte %d flipped: opened with %d records, %v", at, len(got), err)
			}
			if damaged.Offset != int64(start) || !strings.Contains(err.Error(), segmentName("log", 0)) {
				t.Fatalf("byte %d flipped: %v, want the record at %d", at, err, start)
			}
		}
	}
}

// After a power cut, later sectors of the last commit may be there while
// earlier ones are not.
func TestUnorderedLastCommitIsCut(t *testing.T) {
	t.Parallel()
	im := makeImage(rand.New(rand.NewPCG(3, 3)), 2, 6)
	for i := 2; i < 7; i++ {
		data := slices.Clone(im.data)
		clear(data[im.ends[i-1]:im.ends[i]])
		_, got, err := openImage(t, data)
		if err != nil || len(got) != i {
			t.Fatalf("record %d zeroed: %d records, %v", i, len(got), err)
		}
	}
}

func TestDamageBeforeTheLastSegment(t *testing.T) {
	t.Parallel()
	st := newMemStorage()
	opts := Options{SegmentBytes: 4 << 10}
	l := testLog(t, st, opts)
	for i := range 60 {
		mustAppend(t, l, fmt.Sprintf("%0300d", i))
	}
	if len(l.segs) < 4 {
		t.Fatalf("%d segments", len(l.segs))
	}
	first, second := l.segs[0], l.segs[1]
	whole := slices.Clone(st.files[second.name].data)
	reopen := func() error {
		_, err := openLog(st, "log", opts.Defaults(), counter())
		return err
	}
	var damaged *CorruptError
	st.files[second.name].data = whole[:len(whole)-3]
	if err := reopen(); !errors.As(err, &damaged) || damaged.File != second.name {
		t.Errorf("a short middle segment: %v", err)
	}
	st.files[second.name].data = whole
	st.files[second.name].data[len(whole)-1] ^= 4
	if err := reopen(); !errors.As(err, &damaged) || damaged.File != second.name || damaged.Offset == 0 {
		t.Errorf("the last byte of a middle segment: %v", err)
	}
	st.files[second.name].data[len(whole)-1] ^= 4
	if err := reopen(); err != nil {
		t.Fatal(err)
	}
	delete(st.files, second.name)
	if err := reopen(); !errors.As(err, &damaged) {
		t.Errorf("a missing middle segment: %v", err)
	}
	delete(st.files, first.name)
	if err := reopen(); err != nil {
		t.Errorf("the oldest segments may be gone: %v", err)
	}
}

func TestDamageFoundWhileReading(t *testing.T) {
	t.Parallel()
	st := newMemStorage()
	l := testLog(t, st, Options{})
	mustAppend(t, l, "one", "two")
	mustAppend(t, l, "three")
	f := st.files[l.segs[0].name]
	f.data[l.segs[0].size-1] ^= 1
	var r logReader
	if _, err := l.read(&r, 1); err != nil {
		t.Fatal(err)
	}
	var damaged *CorruptError
	if _, err := l.read(&r, 2); !errors.As(err, &damaged) || damaged.Offset == 0 {
		t.Errorf("read of a damaged record: %v", err)
	}
}

// FuzzSegment opens arbitrary bytes and damaged segments. It must not panic,
// must not return a record whose checksum is wrong, and must name the place of
// what it refuses.
func FuzzSegment(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 9))
	im := makeImage(rng, 1, 2, 3)
	f.Add(im.data, uint16(0), byte(0), uint16(0))
	f.Add(im.data, uint16(40), byte(1), uint16(10))
	f.Add(im.data, uint16(len(im.data)-3), byte(255), uint16(0))
	f.Add([]byte{}, uint16(0), byte(0), uint16(0))
	f.Add(bytes.Repeat([]byte{0}, 100), uint16(0), byte(0), uint16(0))
	f.Add(bytes.Repeat([]byte{255}, 100), uint16(0), byte(0), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte, cut uint16) {
		data = slices.Clone(data)
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
			data = data[:len(data)-int(cut)%len(data)]
		}
		st := newMemStorage()
		name := segmentName("log", 0)
		st.files[name] = &memFile{data: slices.Clone(data)}
		seg := &segment{name: name, f: st.files[name]}
		torn, err := seg.scan(true)
		var damaged *CorruptError
		if err != nil && (!errors.As(err, &damaged) || damaged.File != name || damaged.Offset != seg.size) {
			t.Fatalf("refused without the place: %v", err)
		}
		if err == nil && seg.size+torn != int64(len(data)) {
			t.Fatalf("%d good and %d torn bytes of %d", seg.size, torn, len(data))
		}
		// Everything that was accepted must stand an independent check.
		off, want := 0, uint64(0)
		for off < int(seg.size) {
			h, body, err := parseRecord(data[off:])
			if err != nil || h.seq != want {
				t.Fatalf("accepted a bad record at %d: %v", off, err)
			}
			off, want = off+headerBytes+len(body), want+1
		}
	})
}
