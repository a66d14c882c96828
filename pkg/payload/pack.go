package payload

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
)

// Pack compresses a payload for a message that has the encoding, Gzip or Zstd, in AttrEncoding.
func Pack(encoding string, data []byte) ([]byte, error) {
	switch encoding {
	case Gzip:
		return packGzip(data)
	case Zstd:
		w, err := pooled.zstdWriter()
		if err != nil {
			return nil, fmt.Errorf("open the zstd encoder: %w", err)
		}
		return w.EncodeAll(data, nil), nil
	}
	return nil, fmt.Errorf("the encoding %.64q is not known; %s and %s are", encoding, Gzip, Zstd)
}

func packGzip(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, ok := pooled.gzipWriters.Get().(*gzip.Writer)
	if !ok {
		w = gzip.NewWriter(nil)
	}
	defer pooled.gzipWriters.Put(w)
	w.Reset(&b)
	_, err := w.Write(data)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress with gzip: %w", err)
	}
	return b.Bytes(), nil
}
