package cellstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// tableAdmin is the Bigtable table-admin API. What it does not define answers
// Unimplemented with the method's name.
type tableAdmin struct {
	adminpb.UnimplementedBigtableTableAdminServer
	s *Server
}

// clusterID is the one cluster that every instance has.
const clusterID = "local"

// defaultPageSize and maxSplits bound answers and requests.
const (
	defaultPageSize = 1000
	maxSplits       = 100
)

func validID(id string, limit int, firstExtra, extra string) bool {
	if id == "" || len(id) > limit {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !alnum && strings.IndexByte(extra, c) < 0 || i == 0 && !alnum && strings.IndexByte(firstExtra, c) < 0 {
			return false
		}
	}
	return true
}

func checkTableID(id string) error {
	if !validID(id, 50, "", "-.") {
		return status.Errorf(codes.InvalidArgument,
			"Invalid table id %q: it must match [_a-zA-Z0-9][-_.a-zA-Z0-9]* and have at most 50 characters", id)
	}
	return nil
}

func checkFamilyID(id string) error {
	if !validID(id, 64, "-.", "-.") {
		return status.Errorf(codes.InvalidArgument,
			"Invalid column family id %q: it must match [-_.a-zA-Z0-9]+ and have at most 64 characters", id)
	}
	return nil
}

// checkParent accepts any instance: instances need not be created.
func checkParent(parent string) error {
	if ok, _ := regexp.MatchString(`\Aprojects/[^/]+/instances/[^/]+\z`, parent); !ok {
		return status.Errorf(codes.InvalidArgument, "Invalid instance name %q: want projects/<project>/instances/<instance>", parent)
	}
	return nil
}

// save makes a schema and, if not nil, more changes durable. It is called with
// adminMu held.
func (s *Server) save(sc *schema, more func(*pebble.Batch) error) error {
	return s.commitMeta(func(b *pebble.Batch) error {
		value, err := sc.encode()
		if err != nil {
			return status.Errorf(codes.Internal, "%v", err)
		}
		if err := b.Set(tableKey(sc.name), value, nil); err != nil {
			return err
		}
		if more != nil {
			return more(b)
		}
		return nil
	})
}

// commitMeta commits what fill puts into a batch.
func (s *Server) commitMeta(fill func(*pebble.Batch) error) error {
	db, err := s.hold()
	if err != nil {
		return err
	}
	defer db.release()
	b := db.NewBatch()
	defer func() { _ = b.Close() }() // frees memory only
	if err := fill(b); err != nil {
		return err
	}
	return db.commit(b)
}

func (a *tableAdmin) CreateTable(_ context.Context, req *adminpb.CreateTableRequest) (*adminpb.Table, error) {
	sc, err := newSchema(req)
	if err != nil {
		return nil, err
	}
	s := a.s
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if _, _, err := s.lookup(sc.name); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "Table already exists: %s", sc.name)
	}
	sc.id = s.nextID
	err = s.save(sc, func(b *pebble.Batch) error {
		return b.Set(counterKey(), binary.BigEndian.AppendUint32(nil, sc.id+1), nil)
	})
	if err != nil {
		return nil, err
	}
	s.nextID++
	t := &table{}
	t.schema.Store(sc)
	s.mu.Lock()
	s.tables[sc.name] = t
	s.mu.Unlock()
	return sc.proto(), nil
}

// newSchema checks a CreateTable request.
func newSchema(req *adminpb.CreateTableRequest) (*schema, error) {
	if err := checkParent(req.GetParent()); err != nil {
		return nil, err
	}
	if err := checkTableID(req.GetTableId()); err != nil {
		return nil, err
	}
	spec := req.GetTable()
	switch {
	case spec.GetChangeStreamConfig() != nil:
		return nil, status.Error(codes.Unimplemented, "change streams are not implemented")
	case spec.GetAutomatedBackupPolicy() != nil:
		return nil, status.Error(codes.Unimplemented, "automated backups are not implemented")
	}
	sc := &schema{
		name: req.GetParent() + "/tables/" + req.GetTableId(), nextFamily: 1,
		families: map[string]*family{}, unit: 1000, protected: spec.GetDeletionProtection(),
	}
	switch g := spec.GetGranularity(); g {
	case adminpb.Table_TIMESTAMP_GRANULARITY_UNSPECIFIED, adminpb.Table_MILLIS:
	case adminpb.Table_MICROS:
		sc.unit = 1
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unknown timestamp granularity %v", g)
	}
	names := make([]string, 0, len(spec.GetColumnFamilies()))
	for name := range spec.GetColumnFamilies() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := checkFamilyID(name); err != nil {
			return nil, err
		}
		if err := sc.addFamily(name, spec.GetColumnFamilies()[name]); err != nil {
			return nil, err
		}
	}
	if n := len(req.GetInitialSplits()); n > maxSplits {
		return nil, status.Errorf(codes.InvalidArgument, "Too many initial splits: %d provided; limit %d", n, maxSplits)
	}
	for _, split := range req.GetInitialSplits() {
		if err := checkRowKey(split.GetKey()); err != nil {
			return nil, err
		}
		sc.splits = append(sc.splits, split.GetKey())
	}
	sc.splits = sortedSplits(sc.splits)
	return sc.seal(), nil
}

func (a *tableAdmin) GetTable(_ context.Context, req *adminpb.GetTableRequest) (*adminpb.Table, error) {
	_, sc, err := a.s.lookup(req.GetName())
	if err != nil {
		return nil, err
	}
	return tableView(sc, req.GetView(), adminpb.Table_SCHEMA_VIEW), nil
}

// tableView renders a schema in a view, or in def when it is unspecified.
func tableView(sc *schema, view, def adminpb.Table_View) *adminpb.Table {
	if view == adminpb.Table_VIEW_UNSPECIFIED {
		view = def
	}
	t := sc.proto()
	switch view {
	case adminpb.Table_NAME_ONLY:
		return &adminpb.Table{Name: t.Name}
	case adminpb.Table_REPLICATION_VIEW, adminpb.Table_ENCRYPTION_VIEW:
		t = &adminpb.Table{Name: t.Name}
		fallthrough
	case adminpb.Table_FULL:
		t.ClusterStates = map[string]*adminpb.Table_ClusterState{
			clusterID: {ReplicationState: adminpb.Table_ClusterState_READY},
		}
	}
	return t
}

func (a *tableAdmin) ListTables(_ context.Context, req *adminpb.ListTablesRequest) (*adminpb.ListTablesResponse, error) {
	if err := checkParent(req.GetParent()); err != nil {
		return nil, err
	}
	last, err := base64.URLEncoding.DecodeString(req.GetPageToken())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Invalid page token")
	}
	size := int(req.GetPageSize())
	switch {
	case size < 0:
		return nil, status.Errorf(codes.InvalidArgument, "page_size must not be negative, got %d", size)
	case size == 0 || size > defaultPageSize:
		size = defaultPageSize
	}
	res := &adminpb.ListTablesResponse{}
	for _, name := range a.s.tableNames(req.GetParent()) {
		if name <= string(last) {
			continue
		}
		if len(res.Tables) == size {
			res.NextPageToken = base64.URLEncoding.EncodeToString([]byte(res.Tables[size-1].Name))
			break
		}
		if _, sc, err := a.s.lookup(name); err == nil {
			res.Tables = append(res.Tables, tableView(sc, req.GetView(), adminpb.Table_NAME_ONLY))
		}
	}
	return res, nil
}

// alter runs f with a table closed to writers; f returns the new schema, which
// alter saves together with the changes that f adds.
func (s *Server) alter(name string, f func(*schema) (*schema, func(*pebble.Batch) error, error)) (*schema, error) {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	t, _, err := s.lookup(name)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next, more, err := f(t.schema.Load())
	if err != nil {
		return nil, err
	}
	if err := s.save(next, more); err != nil {
		return nil, err
	}
	t.schema.Store(next)
	t.dirty.Add(1) // new rules may make old cells garbage
	return next, nil
}

func (a *tableAdmin) DeleteTable(_ context.Context, req *adminpb.DeleteTableRequest) (*emptypb.Empty, error) {
	s := a.s
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	t, sc, err := s.lookup(req.GetName())
	if err != nil {
		return nil, err
	}
	if sc.protected {
		return nil, protectedError(sc)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err = s.commitMeta(func(b *pebble.Batch) error {
		if err := b.Delete(tableKey(sc.name), nil); err != nil {
			return err
		}
		return deleteRows(b, sc, nil)
	})
	if err != nil {
		return nil, err
	}
	t.schema.Store(nil)
	s.mu.Lock()
	delete(s.tables, sc.name)
	s.mu.Unlock()
	return &emptypb.Empty{}, nil
}

func protectedError(sc *schema) error {
	return status.Errorf(codes.FailedPrecondition, "The table is protected against deletion: %s", sc.name)
}

// deleteRows deletes the rows whose keys start with prefix.
func deleteRows(b *pebble.Batch, sc *schema, prefix []byte) error {
	lower := appendEscapedOpen(appendTablePrefix(nil, sc.id), prefix)
	return b.DeleteRange(lower, upperBound(bytes.Clone(lower)), nil)
}

func (a *tableAdmin) DropRowRange(_ context.Context, req *adminpb.DropRowRangeRequest) (*emptypb.Empty, error) {
	prefix := req.GetRowKeyPrefix()
	if !req.GetDeleteAllDataFromTable() && len(prefix) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a row key prefix, or delete_all_data_from_table, is required")
	}
	_, err := a.s.alter(req.GetName(), func(sc *schema) (*schema, func(*pebble.Batch) error, error) {
		return sc, func(b *pebble.Batch) error { return deleteRows(b, sc, prefix) }, nil
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (a *tableAdmin) UpdateTable(_ context.Context, req *adminpb.UpdateTableRequest) (*longrunningpb.Operation, error) {
	spec, paths := req.GetTable(), req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, status.Error(codes.InvalidArgument, "update_mask is required")
	}
	for _, path := range paths {
		switch root, _, _ := strings.Cut(path, "."); root {
		case "deletion_protection":
		case "change_stream_config", "automated_backup_policy", "row_key_schema":
			return nil, status.Errorf(codes.Unimplemented, "updating %s is not implemented", root)
		default:
			return nil, status.Errorf(codes.InvalidArgument, "update_mask names %q, which cannot be updated", path)
		}
	}
	started := timestamppb.New(a.s.opts.Now())
	sc, err := a.s.alter(spec.GetName(), func(sc *schema) (*schema, func(*pebble.Batch) error, error) {
		next := sc.with()
		next.protected = spec.GetDeletionProtection()
		return next, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return doneOperation(sc.name+"/operations/update",
		&adminpb.UpdateTableMetadata{Name: sc.name, StartTime: started, EndTime: timestamppb.New(a.s.opts.Now())}, sc.proto())
}

// doneOperation is a long-running operation that is over.
func doneOperation(name string, meta, response proto.Message) (*longrunningpb.Operation, error) {
	m, err := anypb.New(meta)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "encode operation: %v", err)
	}
	r, err := anypb.New(response)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "encode operation: %v", err)
	}
	return &longrunningpb.Operation{
		Name: name, Metadata: m, Done: true, Result: &longrunningpb.Operation_Response{Response: r},
	}, nil
}
