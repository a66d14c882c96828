package schema

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/twmb/avro"
)

// members checks the members of a message in Avro's JSON. The library leaves out those that the schema
// does not have, and the first of two with one name; both would be lost without a word.
type members struct {
	named map[string]*avro.SchemaNode // records by their name and their full name
	dec   *json.Decoder
}

// namedRecords collects the records of a schema, which it refers to by name where they come again.
func namedRecords(node *avro.SchemaNode, into map[string]*avro.SchemaNode) {
	if node == nil {
		return
	}
	if node.Type == "record" {
		into[node.Name] = node
		if node.Namespace != "" {
			into[node.Namespace+"."+node.Name] = node
		}
	}
	for i := range node.Fields {
		namedRecords(&node.Fields[i].Type, into)
	}
	for i := range node.Branches {
		namedRecords(&node.Branches[i], into)
	}
	namedRecords(node.Items, into)
	namedRecords(node.Values, into)
}

func (r *avroReader) checkMembers(data []byte) error {
	m := members{named: r.records, dec: json.NewDecoder(bytes.NewReader(data))}
	return m.value(r.root, "")
}

// value checks one value, which the library has found to be of the schema's type.
func (m *members) value(node *avro.SchemaNode, path string) error {
	token, err := m.dec.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return m.object(node, path)
	case json.Delim('['):
		node = m.branch(node, "array", "")
		for m.dec.More() {
			if err := m.value(itemsOf(node), path); err != nil {
				return err
			}
		}
		_, err = m.dec.Token()
	}
	return err
}

func itemsOf(node *avro.SchemaNode) *avro.SchemaNode {
	if node == nil {
		return nil
	}
	return node.Items
}

// object checks an object whose brace is read: a record, a map, or the value of a union with its type.
func (m *members) object(node *avro.SchemaNode, path string) error {
	seen := map[string]bool{}
	record, values := m.branch(node, "record", ""), m.branch(node, "map", "")
	for m.dec.More() {
		token, err := m.dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		at := path + name
		if seen[name] {
			return fmt.Errorf("field %.128q stands twice", at)
		}
		seen[name] = true
		next, known := m.member(node, record, values, name)
		if !known {
			return fmt.Errorf("the schema has no field %.128q", at)
		}
		if err := m.value(next, at+"."); err != nil {
			return err
		}
	}
	_, err := m.dec.Token()
	return err
}

// member is the schema of a member. What is of a type that has no members inside has no schema here.
func (m *members) member(node, record, values *avro.SchemaNode, name string) (next *avro.SchemaNode, known bool) {
	if node != nil && node.Type == "union" {
		if tagged := m.branch(node, "", name); tagged != nil {
			return tagged, true
		}
	}
	if record != nil {
		for i := range record.Fields {
			if record.Fields[i].Name == name {
				return &record.Fields[i].Type, true
			}
		}
	}
	if values != nil {
		return values.Values, true
	}
	// A union whose tag is a name that is not followed here, such as that of an enum.
	return nil, record == nil
}

// branch is the node itself or that branch of a union that has the kind, or that a tag names.
func (m *members) branch(node *avro.SchemaNode, kind, tag string) *avro.SchemaNode {
	if node == nil {
		return nil
	}
	if named := m.named[node.Type]; named != nil {
		node = named
	}
	for i := range node.Branches {
		b := &node.Branches[i]
		if named := m.named[b.Type]; named != nil {
			b = named
		}
		if kind != "" && b.Type == kind || tag != "" && tagOf(b, tag) {
			return b
		}
	}
	if kind != "" && node.Type == kind {
		return node
	}
	return nil
}

// tagOf reports whether a union's value of this type is written with the tag.
func tagOf(b *avro.SchemaNode, tag string) bool {
	return tag == b.Type || tag == b.Name || tag == b.Type+"."+b.LogicalType || b.Namespace != "" && tag == b.Namespace+"."+b.Name
}
