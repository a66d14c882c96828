package monitor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/plan"
)

// differences are the values that differ between two normal forms, by their paths and in their order.
func differences(before, after map[string]any) []plan.Attribute {
	var list []plan.Attribute
	compareMaps("", before, after, &list)
	return list
}

func compareMaps(path string, before, after map[string]any, list *[]plan.Attribute) {
	keys := maps.Clone(before)
	if keys == nil {
		keys = map[string]any{}
	}
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		compareValues(at, before[key], after[key], list)
	}
}

func compareValues(path string, before, after any, list *[]plan.Attribute) {
	oldMap, wasMap := before.(map[string]any)
	newMap, isMap := after.(map[string]any)
	if wasMap && (isMap || after == nil) || isMap && before == nil {
		compareMaps(path, oldMap, newMap, list)
		return
	}
	oldList, wasList := before.([]any)
	newList, isList := after.([]any)
	if wasList && isList && (structured(oldList) || structured(newList)) {
		for i := range max(len(oldList), len(newList)) {
			compareValues(fmt.Sprintf("%s[%d]", path, i), item(oldList, i), item(newList, i), list)
		}
		return
	}
	if a, b := shown(before), shown(after); a != b {
		*list = append(*list, plan.Attribute{Path: path, Before: a, After: b})
	}
}

func item(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// structured tells whether a list has more than words and numbers, so that its items are compared one by one.
func structured(list []any) bool {
	return slices.ContainsFunc(list, func(v any) bool {
		switch v.(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// shown is a value as a plan shows it: texts as they are, lists of words with commas, all else as JSON.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		if !structured(v) {
			words := make([]string, len(v))
			for i := range v {
				words[i] = shown(v[i])
			}
			return strings.Join(words, ", ")
		}
	}
	return jsonText(v)
}
