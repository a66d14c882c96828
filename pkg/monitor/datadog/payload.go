package datadog

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// fill puts a payload into a type of the official client. That type would take unknown fields, wrong types and
// unknown words in silence, and Datadog might as well; here each of them is an error that names the field.
func fill(payload map[string]any, into any) error {
	data, err := json.Marshal(payload)
	if err != nil {
		return invalid("the payload is not JSON: " + err.Error())
	}
	if err := json.Unmarshal(data, into); err != nil {
		return invalid(err.Error())
	}
	if fault := faultIn(reflect.ValueOf(into), ""); fault != "" {
		return invalid(fault)
	}
	back, err := json.Marshal(into)
	if err != nil {
		return invalid(err.Error())
	}
	var sent, would any
	if json.Unmarshal(data, &sent) == nil && json.Unmarshal(back, &would) == nil {
		if path := lost(sent, would, ""); path != "" {
			return invalid(path + ": would not be sent as it is declared")
		}
	}
	return nil
}

func invalid(message string) error {
	return &Error{Method: "send", Path: "payload", Messages: []string{message}, Kind: ErrInvalid}
}

// faultIn finds a part that the type does not know, deepest first, or "".
func faultIn(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return faultIn(v.Elem(), path)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if fault := faultIn(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); fault != "" {
				return fault
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if fault := faultIn(v.MapIndex(key), join(path, fmt.Sprint(key))); fault != "" {
				return fault
			}
		}
	case reflect.Struct:
		return faultInStruct(v, path)
	}
	return ""
}

func faultInStruct(v reflect.Value, path string) string {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || field.Name == "UnparsedObject" || field.Name == "AdditionalProperties" {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if fault := faultIn(v.Field(i), join(path, name)); fault != "" {
			return fault
		}
	}
	if extra := v.FieldByName("AdditionalProperties"); extra.IsValid() && extra.Len() > 0 {
		if unknown, ok := extra.Interface().(map[string]any); ok {
			return join(path, slices.Sorted(maps.Keys(unknown))[0]) + ": Datadog's API has no such field"
		}
	}
	unparsed := v.FieldByName("UnparsedObject")
	if !unparsed.IsValid() || unparsed.IsNil() {
		return ""
	}
	return unparsedFault(v, unparsed.Interface(), path)
}

// unparsedFault looks for the field because of which a whole object was not taken.
func unparsedFault(v reflect.Value, raw any, path string) string {
	object, _ := raw.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(object)) {
		field := fieldOf(v, key)
		if !field.IsValid() {
			continue
		}
		alone, err := json.Marshal(map[string]any{key: object[key]})
		if err != nil {
			continue
		}
		fresh := reflect.New(v.Type())
		err = json.Unmarshal(alone, fresh.Interface())
		left := fresh.Elem().FieldByName("UnparsedObject")
		if err == nil && left.IsValid() && !left.IsNil() || field.IsZero() && isWord(field) && object[key] != nil {
			return fmt.Sprintf("%s: Datadog's API does not take %s here", join(path, key), short(object[key]))
		}
	}
	return fmt.Sprintf("%s: Datadog's API does not know an object such as %s", orRoot(path), short(raw))
}

// isWord tells that a field takes one of some words.
func isWord(field reflect.Value) bool {
	t := field.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, ok := t.MethodByName("IsValid")
	return ok && t.Kind() == reflect.String
}

func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// lost is the path of a value that is not in the other one, or "". An empty list and none are the same.
func lost(from, in any, path string) string {
	switch v := from.(type) {
	case map[string]any:
		object, ok := in.(map[string]any)
		if !ok && len(v) > 0 {
			return orRoot(path)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if found := lost(v[key], object[key], join(path, key)); found != "" {
				return found
			}
		}
	case []any:
		list, ok := in.([]any)
		if len(v) == 0 && (in == nil || len(list) == 0) {
			return ""
		}
		if !ok || len(list) != len(v) {
			return orRoot(path)
		}
		for i := range v {
			if found := lost(v[i], list[i], fmt.Sprintf("%s[%d]", path, i)); found != "" {
				return found
			}
		}
	default:
		if from != in {
			return orRoot(path)
		}
	}
	return ""
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

func orRoot(path string) string {
	if path == "" {
		return "the object"
	}
	return path
}

func short(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return "this value"
	}
	if runes := []rune(string(data)); len(runes) > 120 {
		return string(runes[:120]) + "…"
	}
	return string(data)
}
