package dataset

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// What a declaration may have at most, so that reading it takes no time to speak of.
const (
	maxFileBytes   = 1 << 20
	maxYAMLDepth   = 32
	maxYAMLTokens  = 50_000
	maxYAMLValues  = 100_000
	maxPrefixes    = 4 // anchors and tags in a row
	maxSyntaxBytes = 200
)

type place struct{ line, column int }

// yamlNode is a YAML value with its place. Aliases share the node of their anchor.
type yamlNode struct {
	at      place
	kind    yamlKind
	value   any // of a scalar: string, int64, uint64, float64, bool or nil
	items   []*yamlNode
	entries []yamlEntry
	size    int  // values in it, itself included
	broken  bool // at fault and reported; there is nothing more to say about it
}

type yamlKind uint8

const (
	yamlScalar yamlKind = iota
	yamlList
	yamlMap
)

type yamlEntry struct {
	key   string
	at    place
	value *yamlNode
}

// String describes the value for a message.
func (n *yamlNode) String() string {
	switch n.kind {
	case yamlList:
		return "a list"
	case yamlMap:
		return "a map"
	}
	switch v := n.value.(type) {
	case nil:
		return "nothing"
	case string:
		return "the text " + quoteCut(v)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return fmt.Sprintf("the number %v", v)
	}
}

func (n *yamlNode) isNull() bool { return n.kind == yamlScalar && n.value == nil && !n.broken }

// any returns the value as plain Go data.
func (n *yamlNode) any() any {
	switch n.kind {
	case yamlList:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.any()
		}
		return list
	case yamlMap:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[e.key] = e.value.any()
		}
		return m
	}
	return n.value
}

// yamlReader turns a parsed file into yamlNodes and collects what is wrong with it.
type yamlReader struct {
	lines    []string
	problems []Problem
	anchors  map[string]*yamlNode
	full     bool // maxYAMLValues was reached and reported
}

func (r *yamlReader) fault(at place, hint, format string, args ...any) {
	p := Problem{Line: max(1, at.line), Column: max(1, at.column), Message: fmt.Sprintf(format, args...), Hint: hint}
	if p.Line <= len(r.lines) {
		p.Source = r.lines[p.Line-1]
	}
	r.problems = append(r.problems, p)
}

// read returns the root of the file, nil when there is none.
func (r *yamlReader) read(src []byte) *yamlNode {
	if len(src) > maxFileBytes {
		r.fault(place{}, "", "the file has %d bytes, at most %d are read", len(src), maxFileBytes)
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
		r.fault(at, "", "%s", err.Error())
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil, doc.Body.Type() == ast.DirectiveType, doc.Body.Type() == ast.CommentType:
		case body == nil:
			body = doc.Body
		default:
			r.fault(placeOf(doc.Body), `remove the "---" and what follows`, "the file has more than one YAML document")
			return nil
		}
	}
	if body == nil {
		r.fault(place{}, "a declaration begins with \"version: 1\"", "the file is empty")
		return nil
	}
	return r.node(body, 0)
}

func (r *yamlReader) faultUTF8() {
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
		r.fault(place{i + 1, column}, "save the file as UTF-8", "the file is not valid UTF-8")
		return
	}
}

// parseYAML runs the YAML library, which is not trusted with hostile nesting.
func parseYAML(text string) (file *ast.File, at place, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, at, err = nil, place{1, 1}, errors.New("the file is not valid YAML")
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, err := checkTokens(tokens); err != nil {
		return nil, at, err
	}
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, place{}, nil
	}
	message := err.Error()
	at = place{1, 1}
	var syntax interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &syntax) {
		message = syntax.GetMessage()
		if tk := syntax.GetToken(); tk != nil && tk.Position != nil {
			at = place{tk.Position.Line, tk.Position.Column}
		}
	}
	if len(message) > maxSyntaxBytes {
		message = strings.ToValidUTF8(message[:maxSyntaxBytes], "") + "…"
	}
	return nil, at, fmt.Errorf("the file is not valid YAML: %s", strings.ReplaceAll(message, "\n", " "))
}

// checkTokens refuses what would cost the parser much: deep nesting and many tokens.
func checkTokens(tokens token.Tokens) (place, error) {
	var n nesting
	for i, tk := range tokens {
		at := place{tk.Position.Line, tk.Position.Column}
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
	return place{}, nil
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

func placeOf(n ast.Node) place {
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
		return place{1, 1}
	}
	return place{tk.Position.Line, tk.Position.Column}
}

func (r *yamlReader) node(n ast.Node, depth int) *yamlNode {
	if n == nil || depth > 4*maxYAMLDepth {
		return &yamlNode{at: place{1, 1}, size: 1}
	}
	out := &yamlNode{at: placeOf(n), size: 1}
	switch n := n.(type) {
	case *ast.MappingNode:
		r.mapping(out, n.Values, depth)
	case *ast.MappingValueNode:
		r.mapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = yamlList
		for _, v := range n.Values {
			item := r.node(v, depth+1)
			if r.grow(out, item) {
				out.items = append(out.items, item)
			}
		}
	case *ast.AnchorNode:
		value := r.node(n.Value, depth+1)
		if n.Name != nil {
			r.anchors[n.Name.GetToken().Value] = value
		}
		return value
	case *ast.AliasNode:
		return r.alias(n, out.at)
	case *ast.TagNode:
		out.broken = true
		r.fault(out.at, "remove it", "YAML tags such as %s are not supported", quoteCut(n.GetToken().Value))
	default:
		r.scalar(out, n)
	}
	return out
}

// grow counts item into its container. Aliases multiply, so the count is that
// of the values with every alias written out.
func (r *yamlReader) grow(n, item *yamlNode) bool {
	if r.full || n.size+item.size > maxYAMLValues {
		if !r.full {
			r.fault(n.at, "", "the file has too many values: at most %d are read, aliases written out", maxYAMLValues)
		}
		r.full = true
		return false
	}
	n.size += item.size
	return true
}

func (r *yamlReader) alias(n *ast.AliasNode, at place) *yamlNode {
	name := ""
	if n.Value != nil {
		name = n.Value.GetToken().Value
	}
	if target, ok := r.anchors[name]; ok {
		return target
	}
	r.fault(at, "an anchor must stand before its aliases", "the alias *%s has no anchor &%s", name, name)
	return &yamlNode{at: at, size: 1, broken: true}
}

func (r *yamlReader) mapping(out *yamlNode, values []*ast.MappingValueNode, depth int) {
	out.kind = yamlMap
	first := make(map[string]place, len(values))
	for _, v := range values {
		at := placeOf(v.Key)
		value := r.node(v.Value, depth+1)
		switch v.Key.(type) {
		case *ast.MergeKeyNode:
			r.fault(at, "repeat the keys, or use an alias for the whole value", `the merge key "<<" is not supported`)
			continue
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		default:
			r.fault(at, "", "a key must be a plain name")
			continue
		}
		key := v.Key.GetToken().Value
		if before, ok := first[key]; ok {
			r.fault(at, "", "duplicate key %s, which stands in line %d already", quoteCut(key), before.line)
			continue
		}
		first[key] = at
		if r.grow(out, value) {
			out.entries = append(out.entries, yamlEntry{key: key, at: at, value: value})
		}
	}
}

func (r *yamlReader) scalar(out *yamlNode, n ast.Node) {
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		out.value = n.Value
		// The library takes a plain 1e3 for a text, YAML does not.
		if n.Token.Type == token.StringType && isJSONNumber(n.Value) {
			if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
				out.value = f
			}
		}
	case *ast.LiteralNode:
		if n.Value != nil {
			out.value = n.Value.Value
		}
	case *ast.BoolNode:
		out.value = n.Value
	case *ast.IntegerNode:
		out.value = n.Value
		if u, ok := n.Value.(uint64); ok && u <= math.MaxInt64 {
			out.value = int64(u)
		}
	case *ast.FloatNode:
		out.value = n.Value
	case *ast.InfinityNode:
		out.value = n.Value
	case *ast.NanNode:
		out.value = math.NaN()
	default:
		out.broken = true
		r.fault(out.at, "", "this YAML is not supported here")
	}
}
