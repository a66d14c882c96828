package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

const (
	minNameLen  = 3
	maxNameLen  = 33
	maxTableLen = 50 // Bigtable's limit for a table id
	maxFieldLen = 64
	minTopicLen = 3
	maxTopicLen = 255 // Pub/Sub's limit for a topic and a subscription id
)

// deadInspect is the longest suffix that is put after a topic id.
const deadInspect = "-dead-inspect"

// reservedFields are the query parameters of the API. A field is filtered by a
// parameter of its name, so it cannot have one of these.
func reservedFields() []string {
	return []string{IDMember, "from", "to", "order", "fields", "limit", "cursor", "index", "count", "format", "explain",
		"scan", "metric", "group_by", "interval"}
}

func isLower(c byte) bool  { return c >= 'a' && c <= 'z' }
func isLetter(c byte) bool { return isLower(c | 0x20) }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// only reports whether s has only bytes for which ok is true.
func only(s string, ok func(c byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// The checks return what is wrong with a name, "" when it is good.

func checkName(name string) string {
	switch {
	case len(name) < minNameLen || len(name) > maxNameLen:
		return fmt.Sprintf("must have %d to %d characters", minNameLen, maxNameLen)
	case !isLower(name[0]):
		return "must begin with a lower-case letter"
	case !only(name, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' }):
		return "may have only lower-case letters, digits and -"
	case strings.HasSuffix(name, "-"):
		return "must not end with -"
	}
	return ""
}

func checkTableName(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > maxTableLen:
		return fmt.Sprintf("must have at most %d characters", maxTableLen)
	case !isLower(name[0]):
		return "must begin with a lower-case letter"
	case !only(name, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' || c == '_' }):
		return "may have only lower-case letters, digits, - and _"
	}
	return ""
}

func checkFieldName(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > maxFieldLen:
		return fmt.Sprintf("must have at most %d characters", maxFieldLen)
	case !isLetter(name[0]) && name[0] != '_':
		return "must begin with a letter or _"
	case !only(name, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' }):
		return "may have only letters, digits and _"
	case name == IDMember:
		return "is taken: the API adds the row id under this name"
	case slices.Contains(reservedFields(), name):
		return "is taken: it is a query parameter of the API"
	}
	return ""
}

func checkTopic(topic string) string {
	switch {
	case len(topic) < minTopicLen:
		return fmt.Sprintf("must have at least %d characters", minTopicLen)
	case len(topic) > maxTopicLen-len(deadInspect):
		return fmt.Sprintf("must have at most %d characters, so that %s%s has no more than %d",
			maxTopicLen-len(deadInspect), "<topic>", deadInspect, maxTopicLen)
	case !isLetter(topic[0]):
		return "must begin with a letter"
	case !only(topic, func(c byte) bool { return isLetter(c) || isDigit(c) || strings.IndexByte("-_.~+%", c) >= 0 }):
		return "may have only letters, digits and - _ . ~ + %"
	case strings.HasPrefix(topic, "goog"):
		return `must not begin with "goog"`
	}
	return ""
}

// datasetPlaces says where the names of a dataset stand, for the checks across datasets.
type datasetPlaces struct {
	name    strictyaml.Place
	topic   strictyaml.Place
	indexes []strictyaml.Place
}

// checkClashes refuses two datasets that would share a table or a topic.
func (l *loader) checkClashes() {
	tables, topics := map[string]string{}, map[string]string{}
	claim := func(taken map[string]string, what, id, owner string, at strictyaml.Place) {
		if before, ok := taken[id]; ok {
			l.Fault(at, "rename one of them", "the %s %s of %s is also that of %s", what, quoteCut(id), owner, before)
			return
		}
		taken[id] = owner
	}
	for i, ds := range l.decl.Datasets {
		at := l.places[i]
		claim(tables, "table", ds.Table(), "dataset "+ds.Name, at.name)
		for j := range ds.Indexes {
			claim(tables, "table", ds.IndexTable(&ds.Indexes[j]), "index "+ds.Indexes[j].Name+" in dataset "+ds.Name, at.indexes[j])
		}
		before := len(topics)
		claim(topics, "topic", ds.Topic, "dataset "+ds.Name, at.topic)
		if len(topics) > before {
			claim(topics, "topic", ds.DeadLetterTopic(), "the dead letters of dataset "+ds.Name, at.topic)
		}
	}
}
