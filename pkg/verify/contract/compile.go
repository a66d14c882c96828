package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// compiler makes schemas of the decoded document; each place is compiled once, so that references
// may go in circles.
type compiler struct {
	root any
	done map[string]*Schema
}

// annotations say something to people, or to programs that make things of the document.
func annotations() []string {
	return []string{"$schema", "title", "description", "default", "example", "examples", "contentEncoding", "deprecated"}
}

// at compiles the schema at a JSON pointer.
func (c *compiler) at(pointer string) (*Schema, error) {
	if s, ok := c.done[pointer]; ok {
		return s, nil
	}
	node, err := resolve(c.root, pointer)
	if err != nil {
		return nil, err
	}
	s := &Schema{maxLength: -1, maxItems: -1}
	c.done[pointer] = s
	object, ok := node.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the schema at %s is not an object", pointer)
	}
	for _, keyword := range slices.Sorted(maps.Keys(object)) {
		if err := c.keyword(s, pointer, keyword, object[keyword]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *compiler) keyword(s *Schema, pointer, keyword string, value any) (err error) {
	here := pointer + "/" + escape(keyword)
	var good bool
	switch keyword {
	case "$ref":
		text, isText := value.(string)
		if good = isText; good {
			s.ref, err = c.at(text)
		}
	case "type":
		s.types, good = names(value)
	case "format":
		s.format, good = value.(string)
	case "enum":
		s.enum, good = value.([]any)
	case "minimum":
		s.minimum, good = value.(json.Number)
	case "maximum":
		s.maximum, good = value.(json.Number)
	case "pattern":
		// A pattern that only ECMA-262 knows cannot be checked here; the rest of the schema can.
		text, isText := value.(string)
		if good = isText; good {
			s.pattern, _ = regexp.Compile(text)
		}
	case "uniqueItems":
		s.unique, good = value.(bool)
	case "required":
		s.required, good = names(value)
	default:
		if into := s.bound(keyword); into != nil {
			*into, good = count(value)
			break
		}
		return c.applicator(s, here, keyword, value)
	}
	if err == nil && !good {
		err = fmt.Errorf("%s has a value that a schema cannot have: %s", here, shown(value))
	}
	return err
}

// bound is where a keyword that counts something is kept, nil for any other keyword.
func (s *Schema) bound(keyword string) *int {
	return map[string]*int{"minLength": &s.minLength, "maxLength": &s.maxLength, "minItems": &s.minItems, "maxItems": &s.maxItems}[keyword]
}

// applicator compiles the keywords that hold other schemas.
func (c *compiler) applicator(s *Schema, here, keyword string, value any) (err error) {
	switch keyword {
	case "items":
		s.items, err = c.at(here)
	case "properties":
		members, _ := value.(map[string]any)
		s.properties = map[string]*Schema{}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if s.properties[name], err = c.at(here + "/" + escape(name)); err != nil {
				return err
			}
		}
	case "additionalProperties":
		if allowed, isBool := value.(bool); isBool {
			s.closed = !allowed
			return nil
		}
		s.additional, err = c.at(here)
	case "allOf":
		s.all, err = c.list(here, value)
	case "oneOf":
		s.one, err = c.list(here, value)
	default:
		if !slices.Contains(annotations(), keyword) && !strings.HasPrefix(keyword, "x-") {
			return fmt.Errorf("%s: the keyword %s is not known here", here, keyword)
		}
	}
	return err
}

func (c *compiler) list(here string, value any) ([]*Schema, error) {
	members, _ := value.([]any)
	list := make([]*Schema, len(members))
	for i := range members {
		s, err := c.at(fmt.Sprintf("%s/%d", here, i))
		if err != nil {
			return nil, err
		}
		list[i] = s
	}
	return list, nil
}

func names(value any) ([]string, bool) {
	if one, ok := value.(string); ok {
		return []string{one}, true
	}
	list, ok := value.([]any)
	texts := make([]string, len(list))
	for i, v := range list {
		if texts[i], ok = v.(string); !ok {
			return nil, false
		}
	}
	return texts, ok
}

func count(value any) (int, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return int(i), err == nil && i >= 0
}

func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// resolve follows a JSON pointer such as #/components/schemas/Row.
func resolve(root any, pointer string) (any, error) {
	rest, ok := strings.CutPrefix(pointer, "#")
	if !ok {
		return nil, fmt.Errorf("%q leads out of the document", pointer)
	}
	node := root
	for _, part := range strings.Split(rest, "/")[1:] {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch n := node.(type) {
		case map[string]any:
			if node, ok = n[part]; !ok {
				return nil, fmt.Errorf("%q leads nowhere", pointer)
			}
		case []any:
			var i int
			if _, err := fmt.Sscan(part, &i); err != nil || i < 0 || i >= len(n) {
				return nil, fmt.Errorf("%q leads nowhere", pointer)
			}
			node = n[i]
		default:
			return nil, fmt.Errorf("%q leads nowhere", pointer)
		}
	}
	return node, nil
}
