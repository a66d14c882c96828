package contract

import (
	"encoding/json"
	"fmt"
	"strings"
)

// edge is that a stack needs another one.
type edge struct {
	From    string   `json:"from"` // is applied first
	To      string   `json:"to"`
	Outputs []string `json:"outputs,omitempty"` // of From that To reads
}

func (s *Set) edges() []edge {
	edges := []edge{}
	for _, st := range s.Stacks {
		for _, need := range st.Needs {
			e := edge{From: need, To: st.Name}
			for _, in := range st.Inputs {
				if stack, output := in.Source(); stack == need {
					e.Outputs = append(e.Outputs, output)
				}
			}
			edges = append(edges, e)
		}
	}
	return edges
}

// DOT renders the graph for Graphviz. Arrows go from a stack to those that need it, with the outputs
// that these read.
func (s *Set) DOT() string {
	var b strings.Builder
	b.WriteString("digraph stacks {\n  rankdir=LR;\n  node [shape=box];\n")
	for _, st := range s.Stacks {
		fmt.Fprintf(&b, "  %q;\n", st.Name)
	}
	for _, e := range s.edges() {
		fmt.Fprintf(&b, "  %q -> %q", e.From, e.To)
		if len(e.Outputs) > 0 {
			fmt.Fprintf(&b, " [label=%q]", strings.Join(e.Outputs, ", "))
		}
		b.WriteString(";\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Mermaid renders the graph for markdown. The arrows are those of DOT.
func (s *Set) Mermaid() string {
	var b strings.Builder
	b.WriteString("graph LR\n")
	for _, st := range s.Stacks {
		// A prefix keeps names such as end from being words of the language.
		fmt.Fprintf(&b, "  s_%s[%q]\n", st.Name, st.Name)
	}
	for _, e := range s.edges() {
		label := ""
		if len(e.Outputs) > 0 {
			label = fmt.Sprintf("|%s|", strings.Join(e.Outputs, ", "))
		}
		fmt.Fprintf(&b, "  s_%s -->%s s_%s\n", e.From, label, e.To)
	}
	return b.String()
}

// GraphJSON is the graph as a document: its stacks in their order, and the edges.
func (s *Set) GraphJSON() ([]byte, error) {
	type node struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Needs       []string `json:"needs"`
		Keep        bool     `json:"keep"`
		Requires    []string `json:"requires"`
		Protected   []string `json:"protected"`
		Own         bool     `json:"own"`
	}
	doc := struct {
		Schema string `json:"schema"`
		Stacks []node `json:"stacks"`
		Edges  []edge `json:"edges"`
	}{Schema: "latamctl.stacks.graph/v1", Stacks: []node{}, Edges: s.edges()}
	for _, st := range s.Stacks {
		doc.Stacks = append(doc.Stacks, node{st.Name, st.Description, list(st.Needs), st.Keep, list(st.Requires), list(st.Protected), st.Own})
	}
	return json.Marshal(doc)
}
