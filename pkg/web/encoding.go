package web

import (
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The content codings that are offered, the preferred first.
const (
	zstdCoding = "zstd"
	gzipCoding = "gzip"
)

// MinEncodedBytes is the size from which compressing a body is worth the time.
const MinEncodedBytes = 1 << 10

// Coding returns the content coding that a request's Accept-Encoding prefers among those offered:
// zstd, gzip, or "" for none.
func Coding(h http.Header) string {
	line := strings.Join(h.Values("Accept-Encoding"), ",")
	if line == "" {
		return ""
	}
	best, bestQ := "", 0.0
	for _, coding := range []string{zstdCoding, gzipCoding} {
		if q := quality(line, coding); q > bestQ {
			best, bestQ = coding, q
		}
	}
	if best != "" && quality(line, "identity") > bestQ {
		return ""
	}
	return best
}

// quality is the weight of a coding, 0 when it is not wanted. "*" stands for those not named,
// except that a body as it is needs naming to be preferred.
func quality(line, coding string) float64 {
	star := 0.0
	for part := range strings.SplitSeq(line, ",") {
		name, q := weighted(part)
		switch {
		case strings.EqualFold(name, coding):
			return q
		case name == "*" && coding != "identity":
			star = q
		}
	}
	return star
}

// weighted splits "gzip;q=0.5".
func weighted(part string) (name string, q float64) {
	name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
	q = 1
	if value, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
		parsed, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(parsed >= 0 && parsed <= 1) {
			parsed = 0
		}
		q = parsed
	}
	return strings.TrimSpace(name), q
}

// Accept returns the media type among the offers that a request's Accept prefers, the first offer
// when the request does not say; false when it excludes all of them.
func Accept(h http.Header, offers ...string) (string, bool) {
	line := h.Values("Accept")
	if len(line) == 0 || len(line) == 1 && line[0] == "*/*" {
		return offers[0], true
	}
	if len(line) == 1 && slices.Contains(offers, line[0]) {
		return line[0], true
	}
	best, bestQ, bestExact := "", 0.0, 0
	for _, offer := range offers {
		q, exact := acceptQuality(strings.Join(line, ","), offer)
		if q > bestQ || q == bestQ && q > 0 && exact > bestExact {
			best, bestQ, bestExact = offer, q, exact
		}
	}
	return best, bestQ > 0
}

// acceptQuality is the weight of the most exact range that covers a media type: 3 for itself, 2 for
// type/*, 1 for */*.
func acceptQuality(line, offer string) (q float64, exact int) {
	major, _, _ := strings.Cut(offer, "/")
	for part := range strings.SplitSeq(line, ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		how := 0
		switch kind {
		case offer:
			how = 3
		case major + "/*":
			how = 2
		case "*/*":
			how = 1
		}
		if how <= exact {
			continue
		}
		exact, q = how, 1
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
				q = 0
			}
		}
	}
	return q, exact
}

// Compressor compresses what is written to it. Flush sends what was written so far.
type Compressor interface {
	io.WriteCloser
	Flush() error
}

type compressors struct{ gzip, zstd sync.Pool }

// pooled keeps compressors, because each holds some hundred KiB.
var pooled compressors //nolint:gochecknoglobals // Pools have no state that anybody sees.

// NewCompressor returns a compressor of a coding that Coding returned, writing to w. Close gives it
// back for reuse; w stays open.
func NewCompressor(w io.Writer, coding string) Compressor {
	if coding == gzipCoding {
		z, ok := pooled.gzip.Get().(*gzip.Writer)
		if !ok {
			z, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // The level exists.
		}
		z.Reset(w)
		return &pooledCompressor{Compressor: z, pool: &pooled.gzip}
	}
	z, ok := pooled.zstd.Get().(*zstd.Encoder)
	if !ok {
		// One goroutine and a small window bound what a stream costs.
		z, _ = zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	}
	z.Reset(w)
	return &pooledCompressor{Compressor: z, pool: &pooled.zstd}
}

type pooledCompressor struct {
	Compressor
	pool *sync.Pool
}

func (p *pooledCompressor) Close() error {
	err := p.Compressor.Close()
	p.pool.Put(p.Compressor)
	return err
}

// appendWriter is a buffer as a writer.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(b []byte) (int, error) {
	w.b = append(w.b, b...)
	return len(b), nil
}

// Encode compresses a whole body and appends the result to dst.
func Encode(dst, body []byte, coding string) []byte {
	w := &appendWriter{b: dst}
	z := NewCompressor(w, coding)
	_, _ = z.Write(body) // A buffer takes everything.
	_ = z.Close()
	return w.b
}
