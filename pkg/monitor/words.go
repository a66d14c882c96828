package monitor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// plural is what the objects of a kind are called.
func plural(kind declare.Kind) string {
	if kind == declare.SLO {
		return "SLOs"
	}
	return string(kind) + "s"
}

// sectionName is the name of a kind's section in a plan.
func sectionName(kind declare.Kind) string { return strings.ToLower(plural(kind)) }

func quantity(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// shownNames is how many names a message spells out.
const shownNames = 10

// some joins names, and counts those that are too many.
func some(list []string) string {
	if n := len(list); n > shownNames {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:shownNames], ", "), n-shownNames)
	}
	return strings.Join(list, ", ")
}

func names(keys []declare.Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.String()
	}
	return list
}
