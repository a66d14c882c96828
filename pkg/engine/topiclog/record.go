package topiclog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A record is a header and a body, little endian:
//
//	 0  u32  length of the body in bytes
//	 4  u32  CRC32C of bytes 0..4 and 8..end
//	 8  u32  offset in this segment at which the record's commit began
//	12  u64  sequence number in the topic, without gaps
//	20  u64  message id
//	28  i64  publish time, nanoseconds since 1970
//	36  body: a PubsubMessage without id and time
//
// The commit offset tells a torn tail from a damaged middle: all bytes before
// it were on the disk before this record was written.
const headerBytes = 36

// maxBodyBytes bounds what a reader believes of a length. A message is at most
// 10 MB plus its framing, and a dead letter gains four attributes.
const maxBodyBytes = 12 << 20

var (
	errShort    = errors.New("the record ends after the file")
	errLength   = errors.New("the record's length is impossible")
	errChecksum = errors.New("the record's checksum is wrong")
	errSequence = errors.New("the record's sequence number is wrong")
)

type header struct {
	length int
	commit uint32
	seq    uint64
	id     uint64
	time   int64
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(rec []byte) uint32 {
	t := castagnoli()
	return crc32.Update(crc32.Checksum(rec[:4], t), t, rec[8:])
}

// appendRecord adds one framed record to dst.
func appendRecord(dst []byte, h header, body []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.commit)
	dst = binary.LittleEndian.AppendUint64(dst, h.seq)
	dst = binary.LittleEndian.AppendUint64(dst, h.id)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.time))
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[at+4:], checksum(dst[at:]))
	return dst
}

// parseHeader reads the fields of a header without checking the sum. It needs
// headerBytes bytes.
func parseHeader(b []byte) header {
	return header{
		length: int(binary.LittleEndian.Uint32(b)),
		commit: binary.LittleEndian.Uint32(b[8:]),
		seq:    binary.LittleEndian.Uint64(b[12:]),
		id:     binary.LittleEndian.Uint64(b[20:]),
		time:   int64(binary.LittleEndian.Uint64(b[28:])),
	}
}

// parseRecord reads the record at the start of b and checks its sum. The body
// aliases b.
func parseRecord(b []byte) (h header, body []byte, err error) {
	if len(b) < headerBytes {
		return h, nil, errShort
	}
	h = parseHeader(b)
	if h.length > maxBodyBytes {
		return h, nil, errLength
	}
	end := headerBytes + h.length
	if len(b) < end {
		return h, nil, errShort
	}
	if binary.LittleEndian.Uint32(b[4:]) != checksum(b[:end]) {
		return h, nil, errChecksum
	}
	return h, b[headerBytes:end], nil
}
