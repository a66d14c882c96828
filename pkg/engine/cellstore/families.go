package cellstore

import (
	"context"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func (a *tableAdmin) ModifyColumnFamilies(
	_ context.Context, req *adminpb.ModifyColumnFamiliesRequest,
) (*adminpb.Table, error) {
	if len(req.GetModifications()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "No modifications provided")
	}
	sc, err := a.s.alter(req.GetName(), func(sc *schema) (*schema, func(*pebble.Batch) error, error) {
		next := sc.with()
		for _, mod := range req.GetModifications() {
			if err := next.modify(mod); err != nil {
				return nil, nil, err
			}
		}
		return next.seal(), nil, nil
	})
	if err != nil {
		return nil, err
	}
	return sc.proto(), nil
}

// modify applies one change to a copy of a schema.
func (sc *schema) modify(mod *adminpb.ModifyColumnFamiliesRequest_Modification) error {
	name := mod.GetId()
	present := sc.families[name]
	if mod.GetCreate() == nil && present == nil {
		if err := checkFamilyID(name); err != nil {
			return err
		}
		return status.Errorf(codes.NotFound, "Column family not found: %q in %s", name, sc.name)
	}
	switch m := mod.GetMod().(type) {
	case *adminpb.ModifyColumnFamiliesRequest_Modification_Create:
		if err := checkFamilyID(name); err != nil {
			return err
		}
		if present != nil {
			return status.Errorf(codes.AlreadyExists, "Column family already exists: %q in %s", name, sc.name)
		}
		return sc.addFamily(name, m.Create)
	case *adminpb.ModifyColumnFamiliesRequest_Modification_Drop:
		if !m.Drop {
			return status.Errorf(codes.InvalidArgument, "drop must be true if set (family %q)", name)
		}
		if sc.protected {
			return protectedError(sc)
		}
		// The cells stay until the next garbage collection, out of sight.
		delete(sc.families, name)
		sc.dropped = true
		return nil
	case *adminpb.ModifyColumnFamiliesRequest_Modification_Update:
		return sc.updateFamily(present, m.Update, mod.GetUpdateMask().GetPaths())
	}
	return status.Errorf(codes.InvalidArgument, "the modification of family %q is empty", name)
}

// updateFamily replaces what paths name; no path at all means the GC rule.
func (sc *schema) updateFamily(f *family, update *adminpb.ColumnFamily, paths []string) error {
	spec := &adminpb.ColumnFamily{GcRule: f.spec.GetGcRule(), ValueType: f.spec.GetValueType()}
	if len(paths) == 0 {
		paths = []string{"gc_rule"}
	}
	for _, path := range paths {
		switch path {
		case "gc_rule":
			spec.GcRule = update.GetGcRule()
		case "value_type":
			aggregate := f.spec.GetValueType().GetAggregateType() != nil || update.GetValueType().GetAggregateType() != nil
			if aggregate && !proto.Equal(f.spec.GetValueType(), update.GetValueType()) {
				return status.Error(codes.InvalidArgument, "Immutable fields 'value_type.aggregate_type' cannot be updated")
			}
			spec.ValueType = update.GetValueType()
		default:
			return status.Errorf(codes.InvalidArgument, "update_mask names %q, which cannot be updated", path)
		}
	}
	next, err := newFamily(f.id, f.name, spec)
	if err != nil {
		return err
	}
	sc.families[f.name] = next
	return nil
}

// Consistency holds at once: there is one copy of the data.

func (a *tableAdmin) GenerateConsistencyToken(
	_ context.Context, req *adminpb.GenerateConsistencyTokenRequest,
) (*adminpb.GenerateConsistencyTokenResponse, error) {
	_, sc, err := a.s.lookup(req.GetName())
	if err != nil {
		return nil, err
	}
	return &adminpb.GenerateConsistencyTokenResponse{ConsistencyToken: "TokenFor-" + sc.name}, nil
}

func (a *tableAdmin) CheckConsistency(
	_ context.Context, req *adminpb.CheckConsistencyRequest,
) (*adminpb.CheckConsistencyResponse, error) {
	_, sc, err := a.s.lookup(req.GetName())
	if err != nil {
		return nil, err
	}
	if req.GetConsistencyToken() != "TokenFor-"+sc.name {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid consistency token %q", req.GetConsistencyToken())
	}
	return &adminpb.CheckConsistencyResponse{Consistent: true}, nil
}
