package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// yamlOf writes a JSON text as YAML in the same order: maps and lists as blocks, plain words where
// they are unmistakable, everything else quoted as JSON is, which YAML reads the same.
func yamlOf(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	w := yamlWriter{dec: dec}
	if err := w.value(0, false); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return w.out.Bytes(), nil
}

type yamlWriter struct {
	dec *json.Decoder
	out bytes.Buffer
}

const yamlIndent = "  "

// value writes the next value. Behind a dash the first member of a map stands in the same line.
func (w *yamlWriter) value(depth int, afterDash bool) error {
	token, err := w.dec.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if !w.dec.More() {
			empty := map[json.Delim]string{'{': "{}", '[': "[]"}[t]
			w.out.WriteString(empty + "\n")
			_, err := w.dec.Token()
			return err
		}
		if !afterDash && depth > 0 {
			trimSpace(&w.out)
			w.out.WriteByte('\n')
		}
		if t == '{' {
			return w.members(depth, afterDash)
		}
		return w.items(depth, afterDash)
	case string:
		w.out.WriteString(yamlString(t))
	case json.Number:
		w.out.WriteString(yamlNumber(t.String()))
	case bool:
		fmt.Fprint(&w.out, t)
	default:
		w.out.WriteString("null")
	}
	w.out.WriteByte('\n')
	return nil
}

// maxIntDigits is how many digits an int64 has at most.
const maxIntDigits = 19

// yamlNumber gives a number a fraction where a reader of YAML 1.1 would otherwise take it for a
// string: with an exponent, or beyond 64 bits.
func yamlNumber(s string) string {
	at := strings.IndexAny(s, "eE")
	switch {
	case strings.Contains(s, "."):
	case at > 0:
		return s[:at] + ".0" + s[at:]
	case len(strings.TrimPrefix(s, "-")) > maxIntDigits:
		return s + ".0"
	}
	return s
}

// trimSpace takes the space behind a colon away, where a block follows.
func trimSpace(out *bytes.Buffer) {
	if b := out.Bytes(); len(b) > 0 && b[len(b)-1] == ' ' {
		out.Truncate(len(b) - 1)
	}
}

func (w *yamlWriter) members(depth int, afterDash bool) error {
	for first := true; w.dec.More(); first = false {
		token, err := w.dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // A member begins with its name.
		if !first || !afterDash {
			w.out.WriteString(strings.Repeat(yamlIndent, depth))
		}
		w.out.WriteString(yamlString(name) + ": ")
		if err := w.value(depth+1, false); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func (w *yamlWriter) items(depth int, afterDash bool) error {
	for first := true; w.dec.More(); first = false {
		if !first || !afterDash {
			w.out.WriteString(strings.Repeat(yamlIndent, depth))
		}
		w.out.WriteString("- ")
		if err := w.value(depth+1, true); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

// yamlString writes a string plain where no reader of YAML 1.1 or 1.2 can take it for anything else.
func yamlString(s string) string {
	if plain(s) {
		return s
	}
	quoted, err := encode(s)
	if err != nil {
		return `""` // A Go string always encodes.
	}
	// DEL and the C1 controls may not stand in YAML as they are; JSON lets them.
	var b strings.Builder
	for _, r := range string(quoted) {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plain(s string) bool {
	switch strings.ToLower(s) {
	case "", "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return false
	}
	if !letter(s[0]) && s[0] != '/' && s[0] != '$' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case letter(c), c >= '0' && c <= '9', strings.IndexByte("_./$-", c) >= 0:
		case (c == '{' || c == '}') && s[0] == '/': // a path with variables
		case c == ' ' && i < len(s)-1 && s[i+1] != ' ':
		default:
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
