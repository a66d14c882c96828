package declare_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// slow is how long the largest file may take; a thousand monitors take a tenth of it.
const slow = 20 * time.Second

func FuzzLoad(f *testing.F) {
	f.Add([]byte(small), []byte(extended))
	for _, c := range faults() {
		f.Add([]byte(c.file), []byte(c.own))
	}
	for _, seed := range []string{
		"version: 1\nmonitors: {a: {for_each: [1, 2], extends: a}}",
		"version: 1\nvalues: {v: [1, 2, {a: 1}]}\nmonitors: {a: {for_each: \"${v}\", title: \"${each.value} ${v}\", query: \"${ref:monitor.${ref:monitor.a}}\"}}",
		"version: 1\nmonitors:\n  a: &x {title: t, query: q}\n  b: *x",
		"version: 1\ntemplates: {t: {params: {p: null}, monitors: {m: {title: \"${p}$${x\"}}}}\nuse: {u: {template: t, with: {p: [\"${p}\"]}}}",
		"monitors: 3", "version: ${a}", "[]",
	} {
		f.Add([]byte(seed), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, builtIn, own []byte) {
		o := options(t, map[string]string{"a.yaml": string(builtIn)})
		o.Own, o.OwnDir = folder(map[string]string{"b.yaml": string(own)}), "own"
		started := time.Now()
		set, err := declare.Load(o)
		if took := time.Since(started); took > slow {
			t.Errorf("it took %v", took)
		}
		if err != nil {
			var problems *strictyaml.Problems
			if !errors.As(err, &problems) || set != nil {
				t.Errorf("unexpected error %T: %v", err, err)
			}
			return
		}
		for _, o := range set.Objects {
			for _, ref := range o.Refs {
				if set.Lookup(ref) == nil {
					t.Errorf("%s names %s, which there is not", o.Key, ref)
				}
			}
		}
	})
}
