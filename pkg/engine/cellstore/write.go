package cellstore

import (
	"context"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// dataService is the Bigtable data API. What it does not define answers
// Unimplemented with the method's name.
type dataService struct {
	bigtablepb.UnimplementedBigtableServer
	s *Server
}

// target is a table as requests name it: views are not served.
type target interface {
	GetTableName() string
	GetAuthorizedViewName() string
}

func tableName(t target) (string, error) {
	if t.GetAuthorizedViewName() != "" {
		return "", status.Error(codes.Unimplemented, "authorized views are not implemented")
	}
	return t.GetTableName(), nil
}

// writeTo runs f with the table open for writing: its schema cannot change and
// the database stays open.
func (s *Server) writeTo(t target, f func(*database, *table, *schema) error) error {
	name, err := tableName(t)
	if err != nil {
		return err
	}
	tbl, _, err := s.lookup(name)
	if err != nil {
		return err
	}
	tbl.mu.RLock()
	defer tbl.mu.RUnlock()
	sc := tbl.schema.Load()
	if sc == nil {
		return status.Errorf(codes.NotFound, "Table not found: %s", name)
	}
	db, err := s.hold()
	if err != nil {
		return err
	}
	defer db.release()
	return f(db, tbl, sc)
}

// mutation is one row's validated mutations.
type mutation struct {
	row  []byte
	muts []*bigtablepb.Mutation
}

// write applies rows in one synced batch. The caller holds their locks.
func (s *Server) write(db *database, t *table, sc *schema, rows []mutation, reads bool) error {
	if len(rows) == 0 {
		return nil
	}
	now := s.opts.Now().UnixMicro()
	m := mutator{sc: sc, now: now - now%sc.unit}
	if reads {
		m.batch = db.NewIndexedBatch()
	} else {
		m.batch = db.NewBatch()
	}
	defer func() { _ = m.batch.Close() }() // frees memory only
	for _, r := range rows {
		if err := m.apply(r.row, r.muts); err != nil {
			return err
		}
	}
	t.dirty.Add(m.cells)
	return db.commit(m.batch)
}

func (d *dataService) MutateRow(_ context.Context, req *bigtablepb.MutateRowRequest) (*bigtablepb.MutateRowResponse, error) {
	err := d.s.writeTo(req, func(db *database, t *table, sc *schema) error {
		reads, err := sc.checkMutations(req.GetRowKey(), req.GetMutations())
		if err != nil {
			return err
		}
		var set stripeSet
		d.s.locks.add(&set, sc.id, req.GetRowKey())
		d.s.locks.lock(&set, reads)
		defer d.s.locks.unlock(&set, reads)
		return d.s.write(db, t, sc, []mutation{{req.GetRowKey(), req.GetMutations()}}, reads)
	})
	if err != nil {
		return nil, err
	}
	return &bigtablepb.MutateRowResponse{}, nil
}

// responseEntries is how many statuses one MutateRows response carries.
const responseEntries = 10_000

func (d *dataService) MutateRows(req *bigtablepb.MutateRowsRequest, stream bigtablepb.Bigtable_MutateRowsServer) error {
	total := 0
	for _, e := range req.GetEntries() {
		total += len(e.GetMutations())
	}
	if err := checkMutationCount(total); err != nil {
		return err
	}
	var results []*bigtablepb.MutateRowsResponse_Entry
	err := d.s.writeTo(req, func(db *database, t *table, sc *schema) (err error) {
		results, err = d.s.mutateRows(db, t, sc, req.GetEntries())
		return err
	})
	if err != nil {
		return err
	}
	for len(results) > 0 {
		n := min(len(results), responseEntries)
		if err := stream.Send(&bigtablepb.MutateRowsResponse{Entries: results[:n]}); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

// mutateRows applies the valid entries in one batch and gives each its status.
func (s *Server) mutateRows(
	db *database, t *table, sc *schema, entries []*bigtablepb.MutateRowsRequest_Entry,
) ([]*bigtablepb.MutateRowsResponse_Entry, error) {
	var (
		set     stripeSet
		reads   bool
		ok      = &spb.Status{}
		rows    = make([]mutation, 0, len(entries))
		results = make([]*bigtablepb.MutateRowsResponse_Entry, len(entries))
	)
	for i, e := range entries {
		results[i] = &bigtablepb.MutateRowsResponse_Entry{Index: int64(i), Status: ok}
		rowReads, err := sc.checkMutations(e.GetRowKey(), e.GetMutations())
		if err != nil {
			results[i].Status = status.Convert(err).Proto()
			continue
		}
		reads = reads || rowReads
		rows = append(rows, mutation{e.GetRowKey(), e.GetMutations()})
		s.locks.add(&set, sc.id, e.GetRowKey())
	}
	s.locks.lock(&set, reads)
	defer s.locks.unlock(&set, reads)
	if err := s.write(db, t, sc, rows, reads); err != nil {
		return nil, err
	}
	return results, nil
}

func (d *dataService) CheckAndMutateRow(
	_ context.Context, req *bigtablepb.CheckAndMutateRowRequest,
) (*bigtablepb.CheckAndMutateRowResponse, error) {
	res := &bigtablepb.CheckAndMutateRowResponse{}
	err := d.s.writeTo(req, func(db *database, t *table, sc *schema) error {
		matched, err := d.s.checkAndMutate(db, t, sc, req)
		res.PredicateMatched = matched
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (s *Server) checkAndMutate(
	db *database, t *table, sc *schema, req *bigtablepb.CheckAndMutateRowRequest,
) (matched bool, err error) {
	row := req.GetRowKey()
	if err := checkRowKey(row); err != nil {
		return false, err
	}
	if err := checkMutationCount(len(req.GetTrueMutations()) + len(req.GetFalseMutations())); err != nil {
		return false, err
	}
	for _, muts := range [][]*bigtablepb.Mutation{req.GetTrueMutations(), req.GetFalseMutations()} {
		if len(muts) == 0 {
			continue
		}
		if _, err := sc.checkMutations(row, muts); err != nil {
			return false, err
		}
	}
	filter, err := compileFilter(req.GetPredicateFilter())
	if err != nil {
		return false, err
	}
	var set stripeSet
	s.locks.add(&set, sc.id, row)
	s.locks.lock(&set, true)
	defer s.locks.unlock(&set, true)
	r, err := s.readRow(db, sc, row)
	if err != nil {
		return false, err
	}
	muts := req.GetFalseMutations()
	if matched = len(filter.run(row, r.cells)) > 0; matched {
		muts = req.GetTrueMutations()
	}
	if len(muts) == 0 {
		return matched, nil
	}
	return matched, s.write(db, t, sc, []mutation{{row, muts}}, true)
}

func (d *dataService) PingAndWarm(context.Context, *bigtablepb.PingAndWarmRequest) (*bigtablepb.PingAndWarmResponse, error) {
	return &bigtablepb.PingAndWarmResponse{}, nil
}
