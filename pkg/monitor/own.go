package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// The marks of ownership. An object is ours when it has the first three, each exactly once.
const (
	managedTag  = "managed_by:latamctl"
	stackPrefix = "latamctl_stack:"
	idPrefix    = "latamctl_id:"
	hashPrefix  = "latamctl_hash:"
)

// hashDigits is how much of a hash a mark holds, in hexadecimal digits.
const hashDigits = 12

var (
	markLine     = regexp.MustCompile(`^latamctl stack=(\S+) id=dashboard\.(\S+?)(?: hash=(\S*))?$`)
	knownName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	versionedSum = regexp.MustCompile(`^[0-9]+-[0-9a-f]{12}$`)
)

// mark is what stands on an object of ours.
type mark struct {
	key declare.Key
	// hash is of what was last applied, with the version of the normal form; empty when it is missing
	// or cannot be read.
	hash string
}

// digest is the hash of a normal form as it stands in a mark.
func digest(kind declare.Kind, normal map[string]any) string {
	sum := sha256.Sum256([]byte(string(kind) + "\n" + normalText(normal)))
	return normalVersion + "-" + hex.EncodeToString(sum[:])[:hashDigits]
}

// current tells whether a hash was made of the normal form of this version.
func current(hash string) bool { return strings.HasPrefix(hash, normalVersion+"-") }

func notOwnership(tag string) bool {
	return tag != managedTag && !strings.HasPrefix(tag, stackPrefix) && !strings.HasPrefix(tag, idPrefix) && !strings.HasPrefix(tag, hashPrefix)
}

// readMark reads whose an object is. ok is false when it is not the stack's: a mark is missing, or names
// another stack. An object of ours whose marks contradict each other is an error.
func readMark(live Live, stack string) (m mark, ok bool, err error) {
	if live.Kind == declare.Dashboard {
		m, ok = readMarkLine(live, stack)
		return m, ok, nil
	}
	var stacks, ids, hashes []string
	managed := false
	for _, tag := range textList(live.Payload["tags"]) {
		managed = managed || tag == managedTag
		for prefix, list := range map[string]*[]string{stackPrefix: &stacks, idPrefix: &ids, hashPrefix: &hashes} {
			if value, found := strings.CutPrefix(tag, prefix); found && !slices.Contains(*list, value) {
				*list = append(*list, value)
			}
		}
	}
	if !managed || len(ids) == 0 || !slices.Contains(stacks, stack) {
		return mark{}, false, nil
	}
	if len(stacks) > 1 || len(ids) > 1 {
		return mark{}, false, contradiction(live, slices.Concat(stacks, ids))
	}
	name, right := strings.CutPrefix(ids[0], string(live.Kind)+".")
	if !right || !knownName.MatchString(name) {
		return mark{}, false, nil
	}
	m.key = declare.Key{Kind: live.Kind, Name: name}
	if len(hashes) == 1 && versionedSum.MatchString(hashes[0]) {
		m.hash = hashes[0]
	}
	return m, true, nil
}

// Owned tells which object of the stack a live one is; ok is false when it is not the stack's, however
// much it looks like it.
func Owned(live Live, stack string) (key declare.Key, ok bool) {
	m, ok, err := readMark(live, stack)
	return m.key, ok && err == nil
}

func contradiction(live Live, marks []string) error {
	return refusef(fmt.Sprintf("remove the wrong tags of %s %s at Datadog", live.Kind, live.ID),
		"%s %s carries marks that contradict each other: %s", live.Kind, live.ID, strings.Join(marks, ", "))
}

func readMarkLine(live Live, stack string) (m mark, ok bool) {
	line, _ := splitMark(textOf(live.Payload["description"]))
	parts := markLine.FindStringSubmatch(line)
	if parts == nil || parts[1] != stack || !knownName.MatchString(parts[2]) {
		return mark{}, false
	}
	m.key = declare.Key{Kind: declare.Dashboard, Name: parts[2]}
	if versionedSum.MatchString(parts[3]) {
		m.hash = parts[3]
	}
	return m, true
}

// splitMark parts the line of ownership from the description of a dashboard. It is the last one.
func splitMark(description string) (line, rest string) {
	description = tidy(description)
	last := strings.LastIndexByte(description, '\n') + 1
	if line = strings.TrimSpace(description[last:]); !markLine.MatchString(line) {
		return "", description
	}
	return line, tidy(description[:last])
}

// textList is a list of texts from JSON or from Go.
func textList(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			if s, ok := item.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// sign returns a payload with the marks of ownership, and without those that it had.
func sign(payload map[string]any, stack string, m mark) map[string]any {
	out := maps.Clone(payload)
	switch m.key.Kind {
	case declare.Metric:
	case declare.Dashboard:
		line := fmt.Sprintf("latamctl stack=%s id=%s", stack, m.key)
		if m.hash != "" {
			line += " hash=" + m.hash
		}
		if _, text := splitMark(textOf(payload["description"])); text != "" {
			line = text + "\n\n" + line
		}
		out["description"] = line
	case declare.Monitor, declare.SLO:
		var tags []any
		for _, tag := range textList(payload["tags"]) {
			if notOwnership(tag) {
				tags = append(tags, tag)
			}
		}
		tags = append(tags, managedTag, stackPrefix+stack, idPrefix+m.key.String())
		if m.hash != "" {
			tags = append(tags, hashPrefix+m.hash)
		}
		out["tags"] = tags
	}
	return out
}
