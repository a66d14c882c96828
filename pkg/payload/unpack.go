package payload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// The compressions that are read.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// Unpack returns what a compressed payload holds, at most dataset.MaxRecordBytes. The payload must be
// one whole stream with nothing behind it. The error is a *dataset.RejectError.
func Unpack(encoding string, data []byte) ([]byte, error) {
	var unpack func(dst, data []byte) ([]byte, error)
	switch strings.ToLower(encoding) {
	case "", "identity":
		return data, nil
	case Gzip, "x-gzip":
		unpack = gunzip
	case Zstd:
		unpack = unzstd
	default:
		return nil, rejectf(dataset.ReasonBadEncoding, "the encoding %.64q of the attribute %s is not known; gzip and zstd are", encoding, AttrEncoding)
	}
	scratch, ok := pooled.scratches.Get().(*[]byte)
	if !ok {
		b := make([]byte, 0, dataset.MaxRecordBytes+1)
		scratch = &b
	}
	defer pooled.scratches.Put(scratch)
	out, err := unpack((*scratch)[:0], data)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, rejectf(dataset.ReasonOversize, "the payload of %d bytes in %s unpacks to more than the %d that are taken", len(data), encoding, dataset.MaxRecordBytes)
	case err != nil:
		return nil, rejectf(dataset.ReasonBadEncoding, "the payload is not one whole %s stream: %s", strings.ToLower(encoding), clip(err.Error()))
	}
	return bytes.Clone(out), nil
}

// errTooLarge says that there is more than a scratch buffer takes.
var errTooLarge = errors.New("too large")

// codecs are what packing and unpacking use again and again.
type codecs struct {
	// scratches are *[]byte to unpack into: their capacity is the bound, and a record is copied out
	// of them in its own size.
	scratches                sync.Pool
	gzipReaders, gzipWriters sync.Pool
	zstdReader               func() (*zstd.Decoder, error)
	zstdWriter               func() (*zstd.Encoder, error)
}

//nolint:gochecknoglobals // Pools have no state that anybody sees.
var pooled = codecs{
	zstdReader: sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxWindow),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	}),
	zstdWriter: sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil) }),
}

func gunzip(dst, data []byte) ([]byte, error) {
	// A bytes.Reader is read byte by byte, so what is behind the stream stays in it.
	in := bytes.NewReader(data)
	r, ok := pooled.gzipReaders.Get().(*gzip.Reader)
	if !ok {
		r = new(gzip.Reader)
	}
	defer pooled.gzipReaders.Put(r)
	if err := r.Reset(in); err != nil {
		return nil, whole(err)
	}
	r.Multistream(false)
	n, err := io.ReadFull(r, dst[:cap(dst)])
	switch {
	case err == nil:
		return nil, errTooLarge
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && endOf(r) == nil:
	default:
		return nil, whole(err)
	}
	if in.Len() > 0 {
		return nil, fmt.Errorf("%d bytes follow it", in.Len())
	}
	return dst[:n], nil
}

// endOf tells a stream that has ended well from one that is cut: io.ReadFull answers both alike.
func endOf(r io.Reader) error {
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// whole names the end of the data.
func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut off")
	}
	return err
}

// maxWindow is the largest window of a zstd stream, the same as zstd's own tool takes. Unpacking into
// a buffer, it costs no memory.
const maxWindow = 128 << 20

func unzstd(dst, data []byte) ([]byte, error) {
	if err := checkFrame(data); err != nil {
		return nil, err
	}
	r, err := pooled.zstdReader()
	if err != nil {
		return nil, err
	}
	out, err := r.DecodeAll(data, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || len(out) > dataset.MaxRecordBytes {
		return nil, errTooLarge
	}
	return out, whole(err)
}

// checkFrame follows the blocks of a zstd frame to see that the data is that frame and nothing else:
// DecodeAll would join several.
func checkFrame(data []byte) error {
	var h zstd.Header
	if err := h.Decode(data); err != nil {
		return whole(err)
	}
	if h.Skippable {
		return errors.New("it begins with a frame that holds no data")
	}
	const headerBytes, checksumBytes, rle = 3, 4, 1
	at := h.HeaderSize
	for last := false; !last; {
		if at+headerBytes > len(data) {
			return errors.New("it is cut off")
		}
		b := uint32(data[at]) | uint32(binary.LittleEndian.Uint16(data[at+1:]))<<8
		last = b&1 == 1
		size := int(b >> 3)
		if b>>1&3 == rle {
			size = 1
		}
		at += headerBytes + size
	}
	if h.HasCheckSum {
		at += checksumBytes
	}
	switch {
	case at > len(data):
		return errors.New("it is cut off")
	case at < len(data):
		return fmt.Errorf("%d bytes follow it", len(data)-at)
	}
	return nil
}
