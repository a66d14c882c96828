package contract_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// diamond is a → b, c → d, and e alone.
func diamond(t *testing.T) *contract.Set {
	t.Helper()
	return load(t, contracts(map[string]string{
		"d": "description: d\nneeds: [c, b]\n", "c": "description: c\nneeds: [a]\n", "b": "description: b\nneeds: [a]\n",
		"a": "description: a\n", "e": "description: e\n",
	}), nil)
}

func names(stacks []*contract.Stack) string {
	var out []string
	for _, st := range stacks {
		out = append(out, st.Name)
	}
	return strings.Join(out, " ")
}

func TestSelect(t *testing.T) {
	t.Parallel()
	set := diamond(t)
	for _, c := range []struct {
		names            string
		deps, dependents bool
		want             string
	}{
		{"", false, false, "a b c d e"},
		{"b", false, false, "b"},
		{"d b", false, false, "b d"},
		{"b", true, false, "a b"},
		{"b", false, true, "b d"},
		{"b", true, true, "a b d"}, // c is neither before nor after b
		{"d", true, false, "a b c d"},
		{"a", false, true, "a b c d"},
		{"e", true, true, "e"},
		{"b b", false, false, "b"},
	} {
		got, err := set.Select(strings.Fields(c.names), c.deps, c.dependents)
		if err != nil || names(got) != c.want {
			t.Errorf("Select(%q, %t, %t) is %s, %v, want %s", c.names, c.deps, c.dependents, names(got), err, c.want)
		}
	}
	if got, err := set.WithDeps("b"); err != nil || names(got) != "a b" {
		t.Errorf("WithDeps gives %s, %v", names(got), err)
	}
	if got, err := set.WithDependents("b"); err != nil || names(got) != "b d" {
		t.Errorf("WithDependents gives %s, %v", names(got), err)
	}
	if got := set.Dependents("a"); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the dependents of a are %v", got)
	}
}

func TestUnknownStack(t *testing.T) {
	t.Parallel()
	set := load(t, contracts(map[string]string{"network": networkContract, "registry": "description: x\n"}), nil)
	for name, want := range map[string]string{
		"netwrok": `there is no stack "netwrok"; did you mean network?`,
		"zzz":     `there is no stack "zzz"; the stacks are network, registry`,
	} {
		_, err := set.Select([]string{"network", name}, false, false)
		var unknown *contract.UnknownError
		if !errors.As(err, &unknown) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := load(t, nil, nil).Lookup("a"); err == nil || !strings.Contains(err.Error(), "no stacks at all") {
		t.Errorf("got %v", err)
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	set := diamond(t)
	for name, want := range map[string]int{"a": 3, "b": 2, "c": 2, "d": 1, "e": 1, "nothing": 0} {
		if got := set.Depth(name); got != want {
			t.Errorf("the depth of %s is %d, want %d", name, got, want)
		}
	}
}

// TestGraphAgainstModel compares random graphs with what the definitions say, computed naively.
func TestGraphAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(12)
		label := r.Perm(n) // so that names say nothing about the order
		needs := make([][]int, n)
		texts := map[string]string{}
		for i := range n {
			var list []string
			for j := range i {
				if r.IntN(3) == 0 {
					needs[i] = append(needs[i], j)
					list = append(list, fmt.Sprintf("s%d", label[j]))
				}
			}
			texts[fmt.Sprintf("s%d", label[i])] = "description: x\nneeds: [" + strings.Join(list, ", ") + "]\n"
		}
		set := load(t, contracts(texts), nil)
		if again := load(t, contracts(texts), nil); !slices.Equal(again.Names(), set.Names()) {
			t.Fatalf("seed %d: the order is %v, then %v", seed, set.Names(), again.Names())
		}
		name := func(i int) string { return fmt.Sprintf("s%d", label[i]) }
		var reach func(from, to int) bool // from needs to, in any number of steps
		reach = func(from, to int) bool {
			return from == to || slices.ContainsFunc(needs[from], func(j int) bool { return reach(j, to) })
		}
		var depth func(i int) int
		depth = func(i int) int {
			d := 1
			for j := range n {
				if slices.Contains(needs[j], i) {
					d = max(d, 1+depth(j))
				}
			}
			return d
		}
		order := set.Names()
		if len(order) != n {
			t.Fatalf("seed %d: %d stacks of %d", seed, len(order), n)
		}
		for i := range n {
			deps, err := set.WithDeps(name(i))
			dependents, err2 := set.WithDependents(name(i))
			if err != nil || err2 != nil || set.Depth(name(i)) != depth(i) {
				t.Fatalf("seed %d: the depth of %s is %d, want %d; %v, %v", seed, name(i), set.Depth(name(i)), depth(i), err, err2)
			}
			for j := range n {
				has := func(list []*contract.Stack) bool {
					return slices.ContainsFunc(list, func(s *contract.Stack) bool { return s.Name == name(j) })
				}
				if has(deps) != reach(i, j) || has(dependents) != reach(j, i) {
					t.Fatalf("seed %d: the closures of %s with %s are wrong", seed, name(i), name(j))
				}
				if i != j && reach(i, j) && slices.Index(order, name(i)) < slices.Index(order, name(j)) {
					t.Fatalf("seed %d: %s stands before %s in %v", seed, name(i), name(j), order)
				}
			}
		}
	}
}

// TestCycleAgainstModel finds a cycle exactly where there is one, and names one that exists.
func TestCycleAgainstModel(t *testing.T) {
	t.Parallel()
	cycles := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := 2 + r.IntN(7)
		needs := make([][]bool, n)
		texts := map[string]string{}
		for i := range n {
			needs[i] = make([]bool, n)
			var list []string
			for j := range n {
				if i != j && r.IntN(6) == 0 {
					needs[i][j] = true
					list = append(list, fmt.Sprintf("s%d", j))
				}
			}
			texts[fmt.Sprintf("s%d", i)] = "description: x\nneeds: [" + strings.Join(list, ", ") + "]\n"
		}
		reach := make([][]bool, n)
		for i := range n {
			reach[i] = slices.Clone(needs[i])
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		want := false
		for i := range n {
			want = want || reach[i][i]
		}
		_, err := contract.Load(contracts(texts), nil)
		if (err != nil) != want {
			t.Fatalf("seed %d: got %v, a cycle: %t", seed, err, want)
		}
		if err == nil {
			continue
		}
		cycles++
		_, rest, _ := strings.Cut(err.Error(), "need each other: ")
		rest, _, _ = strings.Cut(rest, ";")
		path := strings.Split(rest, " → ")
		if len(path) < 3 || path[0] != path[len(path)-1] {
			t.Fatalf("seed %d: the path is %v", seed, path)
		}
		for i := range path[1:] {
			var a, b int
			fmt.Sscanf(path[i]+" "+path[i+1], "s%d s%d", &a, &b)
			if !needs[a][b] {
				t.Fatalf("seed %d: %s does not need %s", seed, path[i], path[i+1])
			}
		}
	}
	if cycles < 50 {
		t.Errorf("only %d graphs had a cycle", cycles)
	}
}
