package cellstore

import (
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gcRule decides which cells of a column are garbage. The zero rule keeps all.
type gcRule struct {
	kind        gcKind
	maxVersions int
	maxAge      int64 // microseconds
	rules       []gcRule
}

type gcKind uint8

const (
	gcKeep gcKind = iota
	gcVersions
	gcAge
	gcUnion
	gcIntersection
)

// maxGCDepth bounds the nesting of rules, so that no request exhausts the stack.
const maxGCDepth = 20

// doomed reports whether the cell that is the index-th newest of its column,
// from 0, is garbage at the time now, in microseconds.
func (r gcRule) doomed(index int, micros, now int64) bool {
	switch r.kind {
	case gcVersions:
		return index >= r.maxVersions
	case gcAge:
		return micros < now-r.maxAge
	case gcUnion:
		for _, sub := range r.rules {
			if sub.doomed(index, micros, now) {
				return true
			}
		}
	case gcIntersection:
		for _, sub := range r.rules {
			if !sub.doomed(index, micros, now) {
				return false
			}
		}
		return len(r.rules) > 0
	}
	return false
}

// usesAge reports whether cells can become garbage without a new write.
func (r gcRule) usesAge() bool {
	if r.kind == gcAge {
		return true
	}
	for _, sub := range r.rules {
		if sub.usesAge() {
			return true
		}
	}
	return false
}

func newGCRule(p *adminpb.GcRule) (gcRule, error) { return newGCRuleAt(p, 1) }

func newGCRuleAt(p *adminpb.GcRule, depth int) (gcRule, error) {
	if depth > maxGCDepth {
		return gcRule{}, status.Errorf(codes.InvalidArgument, "GC rule is nested more than %d deep", maxGCDepth)
	}
	var subs []*adminpb.GcRule
	rule := gcRule{}
	switch r := p.GetRule().(type) {
	case nil:
		return gcRule{}, nil
	case *adminpb.GcRule_MaxNumVersions:
		if r.MaxNumVersions < 1 {
			return gcRule{}, status.Errorf(codes.InvalidArgument, "GC rule max_num_versions must be at least 1, got %d", r.MaxNumVersions)
		}
		return gcRule{kind: gcVersions, maxVersions: int(r.MaxNumVersions)}, nil
	case *adminpb.GcRule_MaxAge:
		if err := r.MaxAge.CheckValid(); err != nil {
			return gcRule{}, status.Errorf(codes.InvalidArgument, "GC rule max_age is invalid: %v", err)
		}
		age := r.MaxAge.AsDuration()
		if age < time.Millisecond {
			return gcRule{}, status.Errorf(codes.InvalidArgument, "GC rule max_age must be at least 1ms, got %v", age)
		}
		return gcRule{kind: gcAge, maxAge: age.Microseconds()}, nil
	case *adminpb.GcRule_Union_:
		rule.kind, subs = gcUnion, r.Union.GetRules()
	case *adminpb.GcRule_Intersection_:
		rule.kind, subs = gcIntersection, r.Intersection.GetRules()
	default:
		return gcRule{}, status.Errorf(codes.Unimplemented, "GC rules of type %T are not implemented", r)
	}
	for _, sub := range subs {
		compiled, err := newGCRuleAt(sub, depth+1)
		if err != nil {
			return gcRule{}, err
		}
		rule.rules = append(rule.rules, compiled)
	}
	return rule, nil
}
