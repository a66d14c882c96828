package schema

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/avro"
)

type avroReader struct {
	schema  *avro.Schema
	root    *avro.SchemaNode
	records map[string]*avro.SchemaNode
	fields  []string // of the record, in its order
}

func compileAvro(definition string) (reader, error) {
	var opts []avro.SchemaOpt
	for _, t := range avroTexts() {
		opts = append(opts, avro.WithCustomType(t))
	}
	for _, kind := range []string{"bytes", "fixed"} {
		opts = append(opts, avro.WithCustomType(avro.CustomType{AvroType: kind, Decode: base64Text}))
	}
	parsed, err := avro.Parse(definition, opts...)
	if err != nil {
		return nil, fmt.Errorf("read the Avro schema: %w", err)
	}
	root := parsed.Root()
	if root.Type != "record" {
		return nil, fmt.Errorf("the Avro schema is %.64q at its top, expected a record", root.Type)
	}
	r := &avroReader{schema: parsed, root: root, records: map[string]*avro.SchemaNode{}}
	namedRecords(root, r.records)
	for _, f := range root.Fields {
		r.fields = append(r.fields, f.Name)
	}
	return r, nil
}

func (r *avroReader) binary(data []byte) ([]byte, error) {
	var v any
	rest, err := r.schema.Decode(data, &v)
	if err != nil {
		return nil, avroFault(err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the record", len(rest))
	}
	return r.object(v, len(data))
}

func (r *avroReader) json(data []byte) ([]byte, error) {
	var v any
	if err := r.schema.DecodeJSON(data, &v); err != nil {
		return nil, avroFault(err)
	}
	if err := r.checkMembers(data); err != nil {
		return nil, err
	}
	return r.object(v, len(data))
}

// avroFault leaves out what the library says of Go types, which is nothing to a publisher.
func avroFault(err error) error {
	for semantic := (*avro.SemanticError)(nil); errors.As(err, &semantic) && semantic.Err != nil; semantic = nil {
		if err = semantic.Err; semantic.Field != "" {
			return fmt.Errorf("field %.128q: %w", semantic.Field, err)
		}
	}
	return err
}

// object writes a record in the order of its schema.
func (r *avroReader) object(v any, size int) ([]byte, error) {
	record, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected a record, got %T", v)
	}
	return appendObject(make([]byte, 0, 2*size+16*len(r.fields)), record, r.fields)
}

func appendObject(dst []byte, members map[string]any, names []string) ([]byte, error) {
	dst = append(dst, '{')
	for i, name := range names {
		var err error
		if dst, err = appendMember(dst, i == 0, name); err != nil {
			return nil, err
		}
		if dst, err = appendAvro(dst, members[name]); err != nil {
			return nil, fmt.Errorf("field %.64q: %w", name, err)
		}
	}
	return append(dst, '}'), nil
}

// number is the text of a JSON number.
type number string

func appendAvro(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float32:
		return appendFloat(dst, float64(v), 32), nil
	case float64:
		return appendFloat(dst, v, 64), nil
	case number:
		return append(dst, v...), nil
	case string:
		return appendString(dst, v)
	case map[string]any:
		return appendObject(dst, v, slices.Sorted(maps.Keys(v)))
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendAvro(dst, item); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	return nil, fmt.Errorf("a value of the Go type %T has no text", v)
}

// localLayout is a time without a zone, which none is invented for.
const localLayout = "2006-01-02T15:04:05.999999999"

// avroTexts are the logical types with a text of their own. The first that fits a type is taken.
func avroTexts() []avro.CustomType {
	return []avro.CustomType{
		{LogicalType: "date", Decode: integerText(func(n int64) any {
			return time.Unix(0, 0).UTC().AddDate(0, 0, int(n)).Format(time.DateOnly)
		})},
		{LogicalType: "timestamp-millis", Decode: integerText(instant(time.UnixMilli, time.RFC3339Nano))},
		{LogicalType: "timestamp-micros", Decode: integerText(instant(time.UnixMicro, time.RFC3339Nano))},
		{LogicalType: "timestamp-nanos", Decode: integerText(instant(unixNano, time.RFC3339Nano))},
		{LogicalType: "local-timestamp-millis", Decode: integerText(instant(time.UnixMilli, localLayout))},
		{LogicalType: "local-timestamp-micros", Decode: integerText(instant(time.UnixMicro, localLayout))},
		{LogicalType: "local-timestamp-nanos", Decode: integerText(instant(unixNano, localLayout))},
		{LogicalType: "time-millis", Decode: integerText(instant(time.UnixMilli, clockLayout))},
		{LogicalType: "time-micros", Decode: integerText(instant(time.UnixMicro, clockLayout))},
		{LogicalType: "decimal", AvroType: "bytes", Decode: decimalText},
		{LogicalType: "decimal", AvroType: "fixed", Decode: decimalText},
		{LogicalType: "uuid", AvroType: "fixed", Decode: uuidText},
		{LogicalType: "duration", AvroType: "fixed", Decode: durationText},
	}
}

const clockLayout = "15:04:05.999999999"

func unixNano(n int64) time.Time { return time.Unix(0, n) }

func instant(from func(int64) time.Time, layout string) func(int64) any {
	return func(n int64) any { return from(n).UTC().Format(layout) }
}

func integerText(text func(int64) any) func(any, *avro.SchemaNode) (any, error) {
	return func(v any, _ *avro.SchemaNode) (any, error) {
		switch n := v.(type) {
		case int32:
			return text(int64(n)), nil
		case int64:
			return text(n), nil
		}
		return nil, avro.ErrSkipCustomType
	}
}

func base64Text(v any, _ *avro.SchemaNode) (any, error) {
	b, err := rawBytes(v)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

func rawBytes(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("expected bytes, got %T", v)
	}
	return b, nil
}

// decimalText writes a decimal with all its digits as a number.
func decimalText(v any, node *avro.SchemaNode) (any, error) {
	b, err := rawBytes(v)
	if err != nil {
		return nil, err
	}
	// More bytes than the precision needs would cost time that grows with their square.
	if len(b) > node.Precision/2+2 {
		return nil, fmt.Errorf("a decimal of %d bytes has more than %d digits", len(b), node.Precision)
	}
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	digits, sign := new(big.Int).Abs(n).String(), ""
	if n.Sign() < 0 {
		sign = "-"
	}
	if node.Scale <= 0 {
		return number(sign + digits), nil
	}
	if pad := node.Scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	point := len(digits) - node.Scale
	return number(sign + digits[:point] + "." + digits[point:]), nil
}

func uuidText(v any, _ *avro.SchemaNode) (any, error) {
	b, err := rawBytes(v)
	if err != nil {
		return nil, err
	}
	if len(b) != 16 {
		return nil, errors.New("a uuid has 16 bytes")
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

func durationText(v any, _ *avro.SchemaNode) (any, error) {
	b, err := rawBytes(v)
	if err != nil {
		return nil, err
	}
	return avro.DurationFromBytes(b).String(), nil
}
