package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// found is an object of ours at Datadog.
type found struct {
	mark
	live Live
	// normal is its normal form with references instead of ids, and sum the digest of it.
	normal map[string]any
	sum    string
}

// intact tells whether the object is as it was applied.
func (f *found) intact() bool { return f.hash == f.sum }

// inventory is what Datadog has of a stack.
type inventory struct {
	// objects has all that are ours by their key; more than one is a fault, or a replacement under way.
	objects map[declare.Key][]*found
	// known are the keys of the ids of ours.
	known map[declare.Kind]map[string]declare.Key
	// metrics are the configured ones that were asked for.
	metrics map[string]Live
}

// read lists everything that carries the stack's marks.
func (s *Syncer) read(ctx context.Context) (*inventory, error) {
	kinds := declare.Kinds()
	lists := make([][]Live, len(kinds))
	group, ctx := errgroup.WithContext(ctx)
	for i, kind := range kinds {
		var metrics []string
		if kind == declare.Metric {
			if metrics = s.metricNames(); len(metrics) == 0 {
				continue
			}
		}
		group.Go(func() (err error) {
			if lists[i], err = s.o.Remote.List(ctx, kind, s.stack, metrics); err != nil {
				return fmt.Errorf("read %s: %w", s.stack, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if errors.Is(err, datadog.ErrPartial) {
			return nil, &Refusal{What: "without the whole list it is not known what exists, and objects would be made twice", Hint: "try again later", Err: err}
		}
		return nil, err
	}
	return take(slices.Concat(lists...), s.stack)
}

func (s *Syncer) metricNames() []string {
	var list []string
	for _, o := range s.o.Set.Objects {
		if o.Key.Kind == declare.Metric {
			list = append(list, metricName(o))
		}
	}
	return list
}

func metricName(o *declare.Object) string {
	if name := textOf(o.Payload["metric"]); name != "" {
		return name
	}
	return o.Key.Name
}

// take sorts out what is ours. What is not is dropped here and never seen again.
func take(lives []Live, stack string) (*inventory, error) {
	inv := &inventory{
		objects: map[declare.Key][]*found{},
		known:   map[declare.Kind]map[string]declare.Key{declare.Monitor: {}, declare.SLO: {}, declare.Dashboard: {}},
		metrics: map[string]Live{},
	}
	var errs []error
	for _, live := range lives {
		if live.Kind == declare.Metric {
			inv.metrics[live.ID] = live
			continue
		}
		m, ok, err := readMark(live, stack)
		if err != nil {
			errs = append(errs, err)
		}
		if !ok {
			continue
		}
		if _, twice := inv.known[live.Kind][live.ID]; twice {
			continue // A list that was read while it changed may name an object twice.
		}
		inv.known[live.Kind][live.ID] = m.key
		inv.objects[m.key] = append(inv.objects[m.key], &found{mark: m, live: live})
	}
	for _, list := range inv.objects {
		for _, f := range list {
			f.read(inv.known)
		}
	}
	return inv, errors.Join(errs...)
}

// read makes the normal form, with the ids of known objects as references.
func (f *found) read(known map[declare.Kind]map[string]declare.Key) {
	f.normal = normalise(f.live.Kind, symbolic(f.live.Kind, f.live.Payload, known))
	f.sum = digest(f.live.Kind, f.normal)
}

// kindOf is what cannot be changed of an object: with another one it is replaced.
func kindOf(kind declare.Kind, payload map[string]any) string {
	switch kind {
	case declare.Monitor:
		return monitorType(payload)
	case declare.SLO:
		return textOf(payload["type"])
	case declare.Metric, declare.Dashboard:
	}
	return ""
}

// one returns the object of a key, and those that its replacement left over: they have another type
// than what is declared, and nobody changed them. Other repetitions are a *doubled.
func (inv *inventory) one(key declare.Key, declared *declare.Object) (f *found, left []*found, err error) {
	list := inv.objects[key]
	switch len(list) {
	case 0:
		return nil, nil, nil
	case 1:
		return list[0], nil, nil
	}
	for _, candidate := range list {
		switch {
		case declared != nil && kindOf(key.Kind, candidate.live.Payload) == kindOf(key.Kind, declared.Payload) && f == nil:
			f = candidate
		case candidate.intact():
			left = append(left, candidate)
		}
	}
	if f == nil || len(left) != len(list)-1 || slices.ContainsFunc(left, func(l *found) bool {
		return kindOf(key.Kind, l.live.Payload) == kindOf(key.Kind, f.live.Payload)
	}) {
		return nil, nil, twice(key, list)
	}
	return f, left, nil
}

// missing tells which of the objects that a declaration names Datadog does not have.
func (inv *inventory) missing(refs []declare.Key) []declare.Key {
	var out []declare.Key
	for _, key := range refs {
		if len(inv.objects[key]) == 0 {
			out = append(out, key)
		}
	}
	return out
}

// explain finds out whether an object seems changed only because something that it names is gone:
// then its ids are strangers. The digest of what was applied proves which object each of them was.
func (inv *inventory) explain(f *found, declared *declare.Object) {
	if f.intact() || !current(f.hash) {
		return
	}
	payload := symbolic(f.live.Kind, f.live.Payload, inv.known)
	unknown := strangers(f.live.Kind, payload)
	gone := inv.missing(references(declared.Key.Kind, declared.Payload))
	if len(unknown) == 0 || len(unknown) > maxExplained || len(gone) > maxExplained {
		return
	}
	normal, ok := try(f, payload, unknown, gone)
	if ok {
		f.normal, f.sum = normal, f.hash
	}
}

// maxExplained bounds the search of explain, which tries all orders.
const maxExplained = 4

func try(f *found, payload map[string]any, unknown []stranger, gone []declare.Key) (map[string]any, bool) {
	if len(unknown) == 0 {
		normal := normalise(f.live.Kind, payload)
		return normal, digest(f.live.Kind, normal) == f.hash
	}
	for i, key := range gone {
		if key.Kind != unknown[0].kind {
			continue
		}
		known := map[declare.Kind]map[string]declare.Key{key.Kind: {unknown[0].id: key}}
		rest := slices.Delete(slices.Clone(gone), i, i+1)
		if normal, ok := try(f, symbolic(f.live.Kind, payload, known), unknown[1:], rest); ok {
			return normal, true
		}
	}
	return nil, false
}
