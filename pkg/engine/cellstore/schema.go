package cellstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// table is a live table. Writers hold mu shared while they validate and commit,
// schema changes hold it exclusively; readers use whichever schema they loaded.
type table struct {
	mu     sync.RWMutex
	schema atomic.Pointer[schema] // nil once the table is deleted
	dirty  atomic.Int64           // cells written since the last garbage collection
}

// schema is one immutable version of a table's definition.
type schema struct {
	id         uint32
	name       string // projects/P/instances/I/tables/T
	nextFamily uint16
	families   map[string]*family
	byID       map[uint16]*family
	unit       int64 // microseconds every timestamp must be a multiple of
	protected  bool
	splits     [][]byte
	dropped    bool // families were dropped whose cells may still be stored
}

// family is one column family of a schema.
type family struct {
	id    uint16
	name  string
	boxed *wrapperspb.StringValue // name as ReadRows sends it
	rule  gcRule
	spec  *adminpb.ColumnFamily
	sums  bool // cells are int64 sums
}

// record is a schema as stored.
type record struct {
	ID         uint32            `json:"id"`
	NextFamily uint16            `json:"next_family"`
	FamilyIDs  map[string]uint16 `json:"family_ids"`
	SplitKeys  [][]byte          `json:"split_keys,omitempty"`
	Dropped    bool              `json:"dropped,omitempty"`
	Table      []byte            `json:"table"` // adminpb.Table: families, granularity, protection
}

func metaKey(kind byte, name string) []byte {
	return append([]byte{spaceMeta, kind}, name...)
}

func tableKey(name string) []byte { return metaKey('t', name) }
func counterKey() []byte          { return metaKey('n', "") }

// newFamily checks a family's definition. AddToCell works on int64 sums only.
func newFamily(id uint16, name string, spec *adminpb.ColumnFamily) (*family, error) {
	rule, err := newGCRule(spec.GetGcRule())
	if err != nil {
		return nil, err
	}
	f := &family{
		id: id, name: name, rule: rule,
		boxed: wrapperspb.String(name),
		spec:  &adminpb.ColumnFamily{GcRule: spec.GetGcRule(), ValueType: spec.GetValueType()},
	}
	agg := spec.GetValueType().GetAggregateType()
	if agg == nil {
		return f, nil
	}
	if _, ok := agg.GetAggregator().(*adminpb.Type_Aggregate_Sum_); !ok || agg.GetInputType().GetInt64Type() == nil {
		return nil, status.Errorf(codes.Unimplemented, "family %q: only int64 sum aggregates are implemented", name)
	}
	f.sums = true
	return f, nil
}

// with returns a copy of the schema to change.
func (sc *schema) with() *schema {
	c := *sc
	c.families = maps.Clone(sc.families)
	return &c
}

// addFamily gives a family the next number.
func (sc *schema) addFamily(name string, spec *adminpb.ColumnFamily) error {
	if sc.nextFamily == math.MaxUint16 {
		return status.Error(codes.ResourceExhausted, "too many column families were created in this table")
	}
	f, err := newFamily(sc.nextFamily, name, spec)
	if err != nil {
		return err
	}
	sc.nextFamily++
	sc.families[name] = f
	return nil
}

// seal completes a schema after its families are set.
func (sc *schema) seal() *schema {
	sc.byID = make(map[uint16]*family, len(sc.families))
	for _, f := range sc.families {
		sc.byID[f.id] = f
	}
	return sc
}

// collectable reports whether stored cells may be garbage.
func (sc *schema) collectable() bool {
	if sc.dropped {
		return true
	}
	for _, f := range sc.families {
		if f.rule.kind != gcKeep {
			return true
		}
	}
	return false
}

func (sc *schema) agesOut() bool {
	for _, f := range sc.families {
		if f.rule.usesAge() {
			return true
		}
	}
	return false
}

func (sc *schema) granularity() adminpb.Table_TimestampGranularity {
	if sc.unit == 1 {
		return adminpb.Table_MICROS
	}
	return adminpb.Table_MILLIS
}

// proto returns the schema as the admin API shows it.
func (sc *schema) proto() *adminpb.Table {
	t := &adminpb.Table{
		Name:               sc.name,
		ColumnFamilies:     make(map[string]*adminpb.ColumnFamily, len(sc.families)),
		Granularity:        sc.granularity(),
		DeletionProtection: sc.protected,
	}
	for name, f := range sc.families {
		t.ColumnFamilies[name] = f.spec
	}
	return t
}

func (sc *schema) encode() ([]byte, error) {
	r := record{ID: sc.id, NextFamily: sc.nextFamily, SplitKeys: sc.splits, Dropped: sc.dropped, FamilyIDs: map[string]uint16{}}
	for name, f := range sc.families {
		r.FamilyIDs[name] = f.id
	}
	var err error
	if r.Table, err = proto.Marshal(sc.proto()); err != nil {
		return nil, fmt.Errorf("encode table %s: %w", sc.name, err)
	}
	return json.Marshal(r)
}

func decodeSchema(name string, value []byte) (*schema, error) {
	var r record
	var t adminpb.Table
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decode table %s: %w", name, err)
	}
	if err := proto.Unmarshal(r.Table, &t); err != nil {
		return nil, fmt.Errorf("decode table %s: %w", name, err)
	}
	sc := &schema{
		id: r.ID, name: name, nextFamily: r.NextFamily, splits: r.SplitKeys, dropped: r.Dropped,
		families: map[string]*family{}, unit: 1000, protected: t.DeletionProtection,
	}
	if t.Granularity == adminpb.Table_MICROS {
		sc.unit = 1
	}
	for fam, spec := range t.ColumnFamilies {
		f, err := newFamily(r.FamilyIDs[fam], fam, spec)
		if err != nil {
			return nil, fmt.Errorf("decode table %s: %w", name, err)
		}
		sc.families[fam] = f
	}
	return sc.seal(), nil
}

// loadTables reads all schemas from disk. Tables already known keep their
// identity, because requests may hold them.
func (s *Server) loadTables(db *database) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: metaKey('t', ""), UpperBound: metaKey('t'+1, "")})
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	found := map[string]*schema{}
	for ok := it.First(); ok; ok = it.Next() {
		name := string(it.Key()[2:])
		if found[name], err = decodeSchema(name, it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	if s.nextID, err = readCounter(db); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, t := range s.tables {
		if found[name] == nil {
			t.schema.Store(nil)
			delete(s.tables, name)
		}
	}
	for name, sc := range found {
		t := s.tables[name]
		if t == nil {
			t = &table{}
			s.tables[name] = t
		}
		t.dirty.Add(1) // unknown since the last run: worth one collection
		t.schema.Store(sc)
	}
	return nil
}

func readCounter(db *database) (uint32, error) {
	value, closer, err := db.Get(counterKey())
	if errors.Is(err, pebble.ErrNotFound) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read table counter: %w", err)
	}
	defer func() { _ = closer.Close() }()
	if len(value) != 4 {
		return 0, fmt.Errorf("read table counter: %d bytes, want 4", len(value))
	}
	return binary.BigEndian.Uint32(value), nil
}

// lookup finds a table by its full name.
func (s *Server) lookup(name string) (*table, *schema, error) {
	s.mu.RLock()
	t := s.tables[name]
	s.mu.RUnlock()
	if t != nil {
		if sc := t.schema.Load(); sc != nil {
			return t, sc, nil
		}
	}
	return nil, nil, status.Errorf(codes.NotFound, "Table not found: %s", name)
}

// tableNames lists the tables of an instance in order, or all for "".
func (s *Server) tableNames(parent string) []string {
	prefix := parent
	if prefix != "" {
		prefix += "/tables/"
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name := range s.tables {
		if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sortedSplits returns the distinct keys in order.
func sortedSplits(keys [][]byte) [][]byte {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}
