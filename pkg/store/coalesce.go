package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"cloud.google.com/go/bigtable"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// maxBatchKeys is the most rows that gets ask for in one request.
const maxBatchKeys = 100

// getQueue lets a number of requests for single rows of one table run at a time. Gets that come
// meanwhile wait and are sent together once a request is done, so that the batches grow with the
// load and a lone get never waits.
type getQueue struct {
	table *bigtable.Table
	name  string
	limit int
	hedge *hedger

	mu       sync.Mutex
	inFlight int
	waiting  []*getCall
}

// getCall is a get that waits for its row.
type getCall struct {
	ctx     context.Context // of the caller; batches take its values, never its end
	key     string
	columns []string
	result  chan getResult // takes one result without a receiver

	// batch is nil while the call waits for a request; guarded by the queue's mutex.
	batch *getBatch
}

type getResult struct {
	row dataset.Row
	err error
}

// getBatch is one request for the rows of several calls. It ends early when all of them gave up.
type getBatch struct {
	calls  []*getCall
	cancel context.CancelFunc
	left   int // callers that still wait; guarded by the queue's mutex
}

func (c *Client) queueOf(table string) *getQueue {
	if q, ok := c.queues.Load(table); ok {
		return q.(*getQueue)
	}
	q, _ := c.queues.LoadOrStore(table, &getQueue{
		table: c.client.Open(table), name: table, limit: c.opts.MaxConcurrentGets, hedge: c.hedge,
	})
	return q.(*getQueue)
}

// get reads one row: at once when a request may begin, else together with others. The row has no
// cells when it does not exist.
func (q *getQueue) get(ctx context.Context, key string, columns []string) (dataset.Row, error) {
	q.mu.Lock()
	if q.inFlight < q.limit {
		q.inFlight++
		q.mu.Unlock()
		defer q.finished()
		return q.readOne(ctx, key, columns)
	}
	call := &getCall{ctx: ctx, key: key, columns: columns, result: make(chan getResult, 1)}
	q.waiting = append(q.waiting, call)
	q.mu.Unlock()
	select {
	case r := <-call.result:
		return r.row, r.err
	case <-ctx.Done():
		q.leave(call)
		return dataset.Row{}, q.fault(classify(status.FromContextError(ctx.Err()).Err()))
	}
}

func (q *getQueue) fault(err error) error {
	return fmt.Errorf("read row of table %s: %w", q.name, err)
}

// finished hands the place of a request that is done to the calls that wait, if any.
func (q *getQueue) finished() {
	if batch, ctx := q.next(); batch != nil {
		go q.work(ctx, batch)
	}
}

// work sends one batch after the other until no call waits.
func (q *getQueue) work(ctx context.Context, batch *getBatch) {
	for batch != nil {
		q.readBatch(ctx, batch)
		batch.cancel()
		batch, ctx = q.next()
	}
}

// next takes the calls for one request: the first that waits and those after it with the same
// columns. It gives the place up when no call waits.
func (q *getQueue) next() (*getBatch, context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.inFlight--
		return nil, nil
	}
	first := q.waiting[0]
	// The request outlives the caller whose trace it continues: the others still wait for it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(first.ctx))
	batch := &getBatch{cancel: cancel, calls: make([]*getCall, 0, min(len(q.waiting), maxBatchKeys))}
	rest := q.waiting[:0]
	for _, call := range q.waiting {
		if len(batch.calls) < maxBatchKeys && slices.Equal(call.columns, first.columns) {
			call.batch = batch
			batch.calls = append(batch.calls, call)
			continue
		}
		rest = append(rest, call)
	}
	clear(q.waiting[len(rest):])
	q.waiting = rest
	batch.left = len(batch.calls)
	return batch, ctx
}

// leave forgets a call whose caller gave up, and ends its request when it was the last.
func (q *getQueue) leave(call *getCall) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if call.batch == nil {
		if i := slices.Index(q.waiting, call); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
		}
		return
	}
	if call.batch.left--; call.batch.left == 0 {
		call.batch.cancel()
	}
}

// readBatch reads the rows of a batch and answers all of its calls.
func (q *getQueue) readBatch(ctx context.Context, batch *getBatch) {
	calls := batch.calls
	if len(calls) == 1 {
		row, err := q.readOne(ctx, calls[0].key, calls[0].columns)
		calls[0].answer(row, err)
		return
	}
	keys := make([]string, len(calls))
	for i, call := range calls {
		keys[i] = call.key
	}
	found, err := q.readMany(ctx, keys, calls[0].columns)
	if err != nil && errors.Is(err, ErrPoison) {
		q.readApart(ctx, calls)
		return
	}
	for _, call := range calls {
		call.answer(found[call.key], err)
	}
}

// readApart reads one row after the other once a request for all of them was refused: one key that
// Bigtable does not take must not fail the gets that happened to wait beside it.
func (q *getQueue) readApart(ctx context.Context, calls []*getCall) {
	for _, call := range calls {
		if err := call.ctx.Err(); err != nil {
			call.answer(dataset.Row{}, q.fault(classify(status.FromContextError(err).Err())))
			continue
		}
		row, err := q.readOne(ctx, call.key, call.columns)
		call.answer(row, err)
	}
}

func (call *getCall) answer(row dataset.Row, err error) {
	call.result <- getResult{row: row, err: err}
}

func (q *getQueue) readOne(ctx context.Context, key string, columns []string) (dataset.Row, error) {
	row, err := hedged(ctx, q.hedge, func(ctx context.Context) (dataset.Row, error) {
		var row dataset.Row
		err := readAsked(ctx, q.table, bigtable.RowList{key}, columns, func(found dataset.Row) bool {
			row = found
			return found.Key == key
		})
		return row, err
	})
	if err != nil {
		return dataset.Row{}, q.fault(err)
	}
	return row, nil
}

// readMany returns those of the rows that exist.
func (q *getQueue) readMany(ctx context.Context, keys, columns []string) (map[string]dataset.Row, error) {
	list := bigtable.RowList(slices.Clone(keys))
	slices.Sort(list)
	list = slices.Compact(list)
	found, err := hedged(ctx, q.hedge, func(ctx context.Context) (map[string]dataset.Row, error) {
		found := make(map[string]dataset.Row, len(list))
		err := readAsked(ctx, q.table, list, columns, func(row dataset.Row) bool {
			_, ok := slices.BinarySearch(list, row.Key)
			found[row.Key] = row
			return ok
		})
		return found, err
	})
	if err != nil {
		return nil, q.fault(err)
	}
	return found, nil
}
