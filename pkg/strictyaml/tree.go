package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxFileBytes is the size of the largest file that is read.
const MaxFileBytes = 1 << 20

// What a file may have at most, so that reading it takes no time to speak of.
const (
	maxYAMLDepth   = 32
	maxYAMLTokens  = 50_000
	maxYAMLValues  = 100_000
	maxPrefixes    = 4 // anchors and tags in a row
	maxSyntaxBytes = 200
)

// Place is where something stands, line and column from 1, the column in characters.
type Place struct{ Line, Column int }

// Node is a YAML value with its place. Aliases share the node of their anchor.
type Node struct {
	At      Place
	Kind    Kind
	Value   any // of a scalar: string, int64, uint64, float64, bool or nil
	Items   []*Node
	Entries []Entry
	Broken  bool // at fault and reported; there is nothing more to say about it

	size int // values in it, itself included
}

// Kind is what a Node is.
type Kind uint8

// The kinds of nodes.
const (
	Scalar Kind = iota
	List
	Map
)

// Entry is one key of a map. Keys are unique in their map.
type Entry struct {
	Key   string
	At    Place // of the key
	Value *Node
}

// String describes the value for a message.
func (n *Node) String() string {
	switch n.Kind {
	case List:
		return "a list"
	case Map:
		return "a map"
	}
	switch v := n.Value.(type) {
	case nil:
		return "nothing"
	case string:
		return "the text " + Quote(v)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return fmt.Sprintf("the number %v", v)
	}
}

// IsNull reports whether there is no value.
func (n *Node) IsNull() bool { return n.Kind == Scalar && n.Value == nil && !n.Broken }

// Any returns the value as plain Go data.
func (n *Node) Any() any {
	switch n.Kind {
	case List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Any()
		}
		return list
	case Map:
		m := make(map[string]any, len(n.Entries))
		for _, e := range n.Entries {
			m[e.Key] = e.Value.Any()
		}
		return m
	}
	return n.Value
}

// jsonNumber is a number as JSON writes it.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// Reader reads one file and collects what is wrong with it. A caller that finds a fault reports it
// with Fault and goes on, so that all of them can be mended at once.
type Reader struct {
	lines    []string
	problems []Problem
	anchors  map[string]*Node
	full     bool // maxYAMLValues was reached and reported
}

// Fault reports what is wrong at a place. hint says what to do about it and may be empty.
func (r *Reader) Fault(at Place, hint, format string, args ...any) {
	p := Problem{Line: max(1, at.Line), Column: max(1, at.Column), Message: fmt.Sprintf(format, args...), Hint: hint}
	if p.Line <= len(r.lines) {
		p.Source = r.lines[p.Line-1]
	}
	r.problems = append(r.problems, p)
}

// Faults counts what was reported so far.
func (r *Reader) Faults() int { return len(r.problems) }

// Err returns a *Problems with what was reported, in the order of the file, and nil when all is well.
// file is the path for messages.
func (r *Reader) Err(file string) error {
	if len(r.problems) == 0 {
		return nil
	}
	p := &Problems{File: file, List: r.problems}
	p.sort()
	return p
}

// Read returns the root of the file, nil when there is none, which is reported. empty is the hint
// for a file without a value. A Reader reads one file.
func (r *Reader) Read(src []byte, empty string) *Node {
	r.anchors = map[string]*Node{}
	if len(src) > MaxFileBytes {
		r.Fault(Place{}, "", "the file has %d bytes, at most %d are read", len(src), MaxFileBytes)
		return nil
	}
	text := string(src)
	// A carriage return alone ends a line as well.
	r.lines = strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	if !utf8.Valid(src) {
		r.faultUTF8()
		return nil
	}
	file, at, err := parseYAML(text)
	if err != nil {
		r.Fault(at, "", "%s", err.Error())
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil, doc.Body.Type() == ast.DirectiveType, doc.Body.Type() == ast.CommentType:
		case body == nil:
			body = doc.Body
		default:
			r.Fault(placeOf(doc.Body), `remove the "---" and what follows`, "the file has more than one YAML document")
			return nil
		}
	}
	if body == nil {
		r.Fault(Place{}, empty, "the file is empty")
		return nil
	}
	return r.node(body, 0)
}

func (r *Reader) faultUTF8() {
	for i, line := range r.lines {
		if utf8.ValidString(line) {
			continue
		}
		column := 1
		for rest := line; ; column++ {
			c, size := utf8.DecodeRuneInString(rest)
			if c == utf8.RuneError && size <= 1 {
				break
			}
			rest = rest[size:]
		}
		r.Fault(Place{i + 1, column}, "save the file as UTF-8", "the file is not valid UTF-8")
		return
	}
}

// parseYAML runs the YAML library, which is not trusted with hostile nesting.
func parseYAML(text string) (file *ast.File, at Place, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, at, err = nil, Place{1, 1}, errors.New("the file is not valid YAML")
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, err := checkTokens(tokens); err != nil {
		return nil, at, err
	}
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, Place{}, nil
	}
	message := err.Error()
	at = Place{1, 1}
	var syntax interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &syntax) {
		message = syntax.GetMessage()
		if tk := syntax.GetToken(); tk != nil && tk.Position != nil {
			at = Place{tk.Position.Line, tk.Position.Column}
		}
	}
	if len(message) > maxSyntaxBytes {
		message = strings.ToValidUTF8(message[:maxSyntaxBytes], "") + "…"
	}
	return nil, at, fmt.Errorf("the file is not valid YAML: %s", strings.ReplaceAll(message, "\n", " "))
}

// checkTokens refuses what would cost the parser much: deep nesting and many tokens.
func checkTokens(tokens token.Tokens) (Place, error) {
	var n nesting
	for i, tk := range tokens {
		at := Place{tk.Position.Line, tk.Position.Column}
		if i >= maxYAMLTokens {
			return at, fmt.Errorf("the file is too large: at most %d YAML tokens are read", maxYAMLTokens)
		}
		if n.add(tk) > maxYAMLDepth {
			return at, fmt.Errorf("the values are nested too deeply: at most %d levels are read", maxYAMLDepth)
		}
		if n.prefixes > maxPrefixes {
			return at, errors.New("too many anchors or tags stand before one value")
		}
	}
	return Place{}, nil
}

// nesting follows how deeply the tokens of a file nest: in brackets, and in
// columns of block maps and lists.
type nesting struct {
	flow     int
	columns  []int
	line     int
	open     bool // the next token begins a block: it is the first of its line or follows "-" or "?"
	prefixes int
}

func (n *nesting) add(tk *token.Token) int {
	if tk.Position.Line != n.line {
		n.line, n.open = tk.Position.Line, true
	}
	if n.open && n.flow == 0 && tk.Type != token.CommentType {
		for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= tk.Position.Column {
			n.columns = n.columns[:len(n.columns)-1]
		}
		n.columns = append(n.columns, tk.Position.Column)
		n.open = false
	}
	switch tk.Type {
	case token.SequenceEntryType, token.MappingKeyType:
		n.open = true
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(0, n.flow-1)
	}
	switch tk.Type {
	case token.AnchorType, token.TagType, token.AliasType:
		n.prefixes++
	case token.StringType:
		// The name of an anchor does not end a row of them.
	default:
		n.prefixes = 0
	}
	return n.flow + len(n.columns)
}

func placeOf(n ast.Node) Place {
	tk := n.GetToken()
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			tk = n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		tk = n.Key.GetToken()
	}
	if tk == nil || tk.Position == nil {
		return Place{1, 1}
	}
	return Place{tk.Position.Line, tk.Position.Column}
}

func (r *Reader) node(n ast.Node, depth int) *Node {
	if n == nil || depth > 4*maxYAMLDepth {
		return &Node{At: Place{1, 1}, size: 1}
	}
	out := &Node{At: placeOf(n), size: 1}
	switch n := n.(type) {
	case *ast.MappingNode:
		r.mapping(out, n.Values, depth)
	case *ast.MappingValueNode:
		r.mapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.Kind = List
		for _, v := range n.Values {
			item := r.node(v, depth+1)
			if r.grow(out, item) {
				out.Items = append(out.Items, item)
			}
		}
	case *ast.AnchorNode:
		value := r.node(n.Value, depth+1)
		if n.Name != nil {
			r.anchors[n.Name.GetToken().Value] = value
		}
		return value
	case *ast.AliasNode:
		return r.alias(n, out.At)
	case *ast.TagNode:
		out.Broken = true
		r.Fault(out.At, "remove it", "YAML tags such as %s are not supported", Quote(n.GetToken().Value))
	default:
		r.scalar(out, n)
	}
	return out
}

// grow counts item into its container. Aliases multiply, so the count is that
// of the values with every alias written out.
func (r *Reader) grow(n, item *Node) bool {
	if r.full || n.size+item.size > maxYAMLValues {
		if !r.full {
			r.Fault(n.At, "", "the file has too many values: at most %d are read, aliases written out", maxYAMLValues)
		}
		r.full = true
		return false
	}
	n.size += item.size
	return true
}

func (r *Reader) alias(n *ast.AliasNode, at Place) *Node {
	name := ""
	if n.Value != nil {
		name = n.Value.GetToken().Value
	}
	if target, ok := r.anchors[name]; ok {
		return target
	}
	r.Fault(at, "an anchor must stand before its aliases", "the alias *%s has no anchor &%s", name, name)
	return &Node{At: at, size: 1, Broken: true}
}

func (r *Reader) mapping(out *Node, values []*ast.MappingValueNode, depth int) {
	out.Kind = Map
	first := make(map[string]Place, len(values))
	for _, v := range values {
		at := placeOf(v.Key)
		value := r.node(v.Value, depth+1)
		switch v.Key.(type) {
		case *ast.MergeKeyNode:
			r.Fault(at, "repeat the keys, or use an alias for the whole value", `the merge key "<<" is not supported`)
			continue
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		default:
			r.Fault(at, "", "a key must be a plain name")
			continue
		}
		key := v.Key.GetToken().Value
		if before, ok := first[key]; ok {
			r.Fault(at, "", "duplicate key %s, which stands in line %d already", Quote(key), before.Line)
			continue
		}
		first[key] = at
		if r.grow(out, value) {
			out.Entries = append(out.Entries, Entry{Key: key, At: at, Value: value})
		}
	}
}

func (r *Reader) scalar(out *Node, n ast.Node) {
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		out.Value = n.Value
		// The library takes a plain 1e3 for a text, YAML does not.
		if n.Token.Type == token.StringType && jsonNumber.MatchString(n.Value) {
			if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
				out.Value = f
			}
		}
	case *ast.LiteralNode:
		if n.Value != nil {
			out.Value = n.Value.Value
		}
	case *ast.BoolNode:
		out.Value = n.Value
	case *ast.IntegerNode:
		out.Value = n.Value
		if u, ok := n.Value.(uint64); ok && u <= math.MaxInt64 {
			out.Value = int64(u)
		}
	case *ast.FloatNode:
		out.Value = n.Value
	case *ast.InfinityNode:
		out.Value = n.Value
	case *ast.NanNode:
		out.Value = math.NaN()
	default:
		out.Broken = true
		r.Fault(out.At, "", "this YAML is not supported here")
	}
}
