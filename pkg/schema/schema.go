// Package schema reads messages that are written in a schema language, Avro or Protocol Buffers, as
// the JSON objects of their records. It is pure: a definition comes in as text, and nothing that a
// definition names is fetched.
package schema

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Language is what a definition is written in, as Pub/Sub names it.
type Language string

// The languages that Pub/Sub knows.
const (
	Avro     Language = "AVRO"
	Protobuf Language = "PROTOCOL_BUFFER"
)

// Encoding is how a message of a schema is written, as Pub/Sub names it.
type Encoding string

// The encodings that Pub/Sub knows. JSON is the language's own: in Avro the value of a union with
// several types is an object that names its type.
const (
	JSON   Encoding = "JSON"
	Binary Encoding = "BINARY"
)

// MaxDefinitionBytes is the largest definition that Pub/Sub takes.
const MaxDefinitionBytes = 300 << 10

// Schema is a compiled definition. It may be used by several goroutines.
type Schema struct {
	lang   Language
	reader reader
}

// reader reads messages of one schema.
type reader interface {
	binary(data []byte) ([]byte, error)
	json(data []byte) ([]byte, error)
}

// Compile reads a definition. An Avro definition must be a record; one of Protocol Buffers must have
// one message at its top and import only google/protobuf.
func Compile(ctx context.Context, lang Language, definition string) (*Schema, error) {
	if n := len(definition); n > MaxDefinitionBytes {
		return nil, fmt.Errorf("the definition has %d bytes, at most %d are taken", n, MaxDefinitionBytes)
	}
	s := &Schema{lang: lang}
	var err error
	switch lang {
	case Avro:
		s.reader, err = compileAvro(definition)
	case Protobuf:
		s.reader, err = compileProtobuf(ctx, definition)
	default:
		return nil, fmt.Errorf("the schema language %.64q is not known; %s and %s are", string(lang), Avro, Protobuf)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Read returns a message as a JSON object: one member for each field of the schema that is there.
// An error says that the message does not fit the schema.
func (s *Schema) Read(data []byte, enc Encoding) ([]byte, error) {
	var text []byte
	var err error
	switch enc {
	case Binary:
		text, err = s.reader.binary(data)
	case JSON:
		text, err = s.reader.json(data)
	default:
		return nil, fmt.Errorf("the schema encoding %.64q is not known; %s and %s are", string(enc), JSON, Binary)
	}
	if err != nil {
		return nil, fmt.Errorf("not a message of the %s schema in %s: %w", s.lang, enc, err)
	}
	return text, nil
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string.
func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("a string is not valid UTF-8")
	}
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"'), nil
}

// appendFloat writes the shortest text that reads back as f, and what JSON has no number for as a string.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// appendMember begins a member of an object.
func appendMember(dst []byte, first bool, name string) ([]byte, error) {
	if !first {
		dst = append(dst, ',')
	}
	dst, err := appendString(dst, name)
	return append(dst, ':'), err
}
