package cellstore

import (
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// flushBytes and flushChunks are the sizes from which a response is sent.
	// It always ends with a row: Google's Go client takes no row in parts.
	flushBytes  = 128 << 10
	flushChunks = 2048
	// splitBytes is the largest part of a value in one chunk.
	splitBytes = 1 << 20
)

// chunkWriter turns rows into ReadRows responses. A chunk names only what
// differs from the chunk before it: the row key in the row's first chunk, the
// family and the qualifier where they change.
//
// The response is marshalled within send, so its parts are used again after it.
type chunkWriter struct {
	send func(*bigtablepb.ReadRowsResponse) error

	res   bigtablepb.ReadRowsResponse
	slots []*chunkSlot // the response uses as many as it has chunks
	used  int          // the most slots that one response had
	bytes int
}

// chunkSlot is a chunk with room for the parts it points to.
type chunkSlot struct {
	chunk     bigtablepb.ReadRowsResponse_CellChunk
	qualifier wrapperspb.BytesValue
	commit    bigtablepb.ReadRowsResponse_CellChunk_CommitRow
	label     [1]string
}

func (w *chunkWriter) empty() bool { return len(w.res.Chunks) == 0 }

// next adds an empty chunk to the response.
func (w *chunkWriter) next() *chunkSlot {
	n := len(w.res.Chunks)
	if n == len(w.slots) {
		block := make([]chunkSlot, min(max(16, n), 512))
		for i := range block {
			w.slots = append(w.slots, &block[i])
		}
	}
	w.used = max(w.used, n+1)
	slot := w.slots[n]
	c := &slot.chunk
	c.RowKey, c.FamilyName, c.Qualifier, c.Labels, c.Value = nil, nil, nil, nil, nil
	c.TimestampMicros, c.ValueSize, c.RowStatus = 0, 0, nil
	w.res.Chunks = append(w.res.Chunks, c)
	return slot
}

// forget lets go of everything but the slots, once a request is done.
func (w *chunkWriter) forget() {
	for _, slot := range w.slots[:w.used] {
		slot.chunk.RowKey, slot.chunk.Value, slot.qualifier.Value = nil, nil, nil
	}
	w.send, w.res.Chunks, w.bytes, w.used = nil, w.res.Chunks[:0], 0, 0
}

// row adds a row, whose cells must not be empty, and sends what has become
// large enough. The cells' bytes must stay as they are until the writer is empty.
func (w *chunkWriter) row(key []byte, cells []cell) error {
	for i := range cells {
		c := &cells[i]
		slot := w.next()
		if i == 0 {
			slot.chunk.RowKey = key
			w.bytes += len(key)
		}
		newFamily := i == 0 || c.family != cells[i-1].family
		if newFamily {
			slot.chunk.FamilyName = c.family.boxed
		}
		if newFamily || !c.sameColumn(&cells[i-1]) {
			slot.qualifier.Value = c.qualifier
			slot.chunk.Qualifier = &slot.qualifier
			w.bytes += len(c.qualifier)
		}
		slot.chunk.TimestampMicros = c.micros
		if c.label != "" {
			slot.label[0] = c.label
			slot.chunk.Labels = slot.label[:]
		}
		slot = w.value(slot, c.value)
		if i == len(cells)-1 {
			slot.commit.CommitRow = true
			slot.chunk.RowStatus = &slot.commit
		}
	}
	if w.bytes >= flushBytes || len(w.res.Chunks) >= flushChunks {
		return w.flush()
	}
	return nil
}

// value puts a cell's value into its chunk and, when it is large, further ones,
// of which it returns the last. All but that one carry the size of the whole.
func (w *chunkWriter) value(slot *chunkSlot, value []byte) *chunkSlot {
	const overhead = 16 // bytes per chunk, about
	size := len(value)
	w.bytes += size + overhead
	for len(value) > splitBytes {
		slot.chunk.Value, slot.chunk.ValueSize = value[:splitBytes], int32(size)
		value = value[splitBytes:]
		slot = w.next()
	}
	slot.chunk.Value = value
	return slot
}

// flush sends the chunks collected so far, if any.
func (w *chunkWriter) flush() error {
	if w.empty() {
		return nil
	}
	err := w.send(&w.res)
	w.res.Chunks = w.res.Chunks[:0]
	w.bytes = 0
	return err
}
