package schema

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxNesting bounds how deep messages stand in each other, as dataset does for JSON.
const maxNesting = 100

type protobufReader struct {
	message protoreflect.MessageDescriptor
}

const protobufFile = "schema.proto"

func compileProtobuf(ctx context.Context, definition string) (reader, error) {
	source := protocompile.SourceAccessorFromMap(map[string]string{protobufFile: definition})
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: source}),
		MaxParallelism: 1,
	}
	files, err := compiler.Compile(ctx, protobufFile)
	if err != nil {
		return nil, fmt.Errorf("read the Protocol Buffer schema: %w", err)
	}
	messages := files[0].Messages()
	if messages.Len() != 1 {
		return nil, fmt.Errorf("the Protocol Buffer schema has %d messages at its top, expected one", messages.Len())
	}
	return &protobufReader{messages.Get(0)}, nil
}

func (r *protobufReader) binary(data []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(r.message)
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(data, m); err != nil {
		return nil, err
	}
	return appendProtobuf(make([]byte, 0, 4*len(data)+64), m)
}

func (r *protobufReader) json(data []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(r.message)
	if err := (protojson.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(data, m); err != nil {
		return nil, err
	}
	return appendProtobuf(make([]byte, 0, 2*len(data)+64), m)
}

// appendProtobuf writes a message. A field without presence stands there also when it has its
// default value, which is how such a message says it.
func appendProtobuf(dst []byte, m protoreflect.Message) ([]byte, error) {
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	fields, first := m.Descriptor().Fields(), true
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasPresence() && !m.Has(fd) {
			continue
		}
		var err error
		if dst, err = appendMember(dst, first, string(fd.Name())); err != nil {
			return nil, err
		}
		if dst, err = appendField(dst, fd, m.Get(fd)); err != nil {
			return nil, fmt.Errorf("field %s: %w", fd.Name(), err)
		}
		first = false
	}
	return append(dst, '}'), nil
}

// checkKnown refuses fields that the schema does not have: leaving them out would lose what the publisher sent.
func checkKnown(m protoreflect.Message) error {
	if len(m.GetUnknown()) == 0 {
		return nil
	}
	n, _, _ := protowire.ConsumeTag(m.GetUnknown())
	return fmt.Errorf("the message %s has no field number %d", m.Descriptor().FullName(), n)
}

func appendField(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch {
	case fd.IsMap():
		return appendMap(dst, fd.MapValue(), v.Map())
	case !fd.IsList():
		return appendSingular(dst, fd, v)
	}
	dst = append(dst, '[')
	for i := range v.List().Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendSingular(dst, fd, v.List().Get(i)); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// appendMap writes the entries in the order of their keys' text, so that equal messages have equal texts.
func appendMap(dst []byte, value protoreflect.FieldDescriptor, entries protoreflect.Map) ([]byte, error) {
	keys := make([]protoreflect.MapKey, 0, entries.Len())
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	dst = append(dst, '{')
	for i, k := range keys {
		var err error
		if dst, err = appendMember(dst, i == 0, k.String()); err != nil {
			return nil, err
		}
		if dst, err = appendSingular(dst, value, entries.Get(k)); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendSingular(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool()), nil
	case protoreflect.StringKind:
		return appendString(dst, v.String())
	case protoreflect.BytesKind:
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v.Bytes()), '"'), nil
	case protoreflect.FloatKind:
		return appendFloat(dst, v.Float(), 32), nil
	case protoreflect.DoubleKind:
		return appendFloat(dst, v.Float(), 64), nil
	case protoreflect.EnumKind:
		if value := fd.Enum().Values().ByNumber(v.Enum()); value != nil {
			return appendString(dst, string(value.Name()))
		}
		return strconv.AppendInt(dst, int64(v.Enum()), 10), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return appendMessage(dst, v.Message())
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	}
	return strconv.AppendInt(dst, v.Int(), 10), nil
}

// appendMessage writes the well-known types as their text, and others as objects.
func appendMessage(dst []byte, m protoreflect.Message) ([]byte, error) {
	name := m.Descriptor().FullName()
	if name.Parent() != "google.protobuf" {
		return appendProtobuf(dst, m)
	}
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	switch name.Name() {
	case "Timestamp":
		sec, nanos := secondsOf(m)
		if sec < minTimestamp || sec > maxTimestamp || nanos < 0 || nanos >= int64(time.Second) {
			return nil, errors.New("a timestamp is not in the years 1 to 9999")
		}
		return appendString(dst, time.Unix(sec, nanos).UTC().Format(time.RFC3339Nano))
	case "BoolValue", "StringValue", "BytesValue", "FloatValue", "DoubleValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value":
		fd := m.Descriptor().Fields().ByName("value")
		return appendSingular(dst, fd, m.Get(fd))
	case "Duration", "Struct", "Value", "ListValue", "FieldMask", "Empty":
		// Their JSON is that of the standard mapping, and they hold nothing that we write in another way.
		text, err := protojson.Marshal(m.Interface())
		return append(dst, text...), err
	}
	return appendProtobuf(dst, m)
}

// The years 1 to 9999, in seconds of the Unix time.
const (
	minTimestamp = -62135596800
	maxTimestamp = 253402300799
)

func secondsOf(m protoreflect.Message) (sec, nanos int64) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByName("seconds")).Int(), m.Get(fields.ByName("nanos")).Int()
}
