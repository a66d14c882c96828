package dataset

import (
	"fmt"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// RowID returns the id of a row in URLs: the canonical texts of the key fields
// joined by ",", with every byte outside [A-Za-z0-9._:-] as ~XX and an empty
// text as a lone "~". The error says that key is not a row key of the dataset.
func (ds *Dataset) RowID(key string) (string, error) {
	var buf [96]byte
	id, err := ds.AppendRowID(buf[:0], key)
	return string(id), err
}

// AppendRowID appends what RowID returns.
func (ds *Dataset) AppendRowID(dst []byte, key string) ([]byte, error) {
	start := len(dst)
	rest := key
	var buf [40]byte
	for i, f := range ds.Key {
		v, n, err := splitKey(kindOf(f.Type), rest)
		if err != nil {
			return dst[:start], fmt.Errorf("row key of %s, field %s: %w", ds.Name, f.Name, err)
		}
		rest = rest[n:]
		if i > 0 {
			dst = append(dst, ',')
		}
		if v.str != "" {
			dst = appendIDPart(dst, v.str)
		} else {
			dst = appendIDPart(dst, v.appendText(buf[:0]))
		}
	}
	if rest != "" {
		return dst[:start], fmt.Errorf("row key of %s: %d bytes follow the last field", ds.Name, len(rest))
	}
	// A path "." or ".." would be cleaned away on its way to the server.
	switch string(dst[start:]) {
	case ".":
		dst = append(dst[:start], "~2E"...)
	case "..":
		dst = append(dst[:start], "~2E~2E"...)
	}
	return dst, nil
}

func appendIDPart[T string | []byte](dst []byte, part T) []byte {
	if len(part) == 0 {
		return append(dst, '~')
	}
	for i := range len(part) {
		c := part[i]
		if idByte(c) {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '~', upperHex[c>>4], upperHex[c&15])
	}
	return dst
}

func idByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == ':' || c == '-'
}

// ParseRowID returns the row key that an id stands for. It takes lower-case
// hex and other ways to write a timestamp as well. The error says which part
// is wrong and what was expected there.
func (ds *Dataset) ParseRowID(id string) (key string, err error) {
	parts := strings.Split(id, ",")
	if len(parts) != len(ds.Key) {
		return "", fmt.Errorf("row id of %s: expected %s, got %s in %s",
			ds.Name, countParts(ds.Key), plural(len(parts), "part"), quoteCut(id))
	}
	var dst []byte
	for i, f := range ds.Key {
		text, err := unescapeID(parts[i])
		if err != nil {
			return "", fmt.Errorf("row id of %s, part %d (%s): %w", ds.Name, i+1, f.Name, err)
		}
		v, err := ParseText(f, text)
		if err != nil {
			return "", fmt.Errorf("row id of %s, part %d: %w", ds.Name, i+1, err)
		}
		dst = appendKey(dst, v)
	}
	if len(dst) > MaxKeyBytes {
		return "", fmt.Errorf("row id of %s: the row key has %d bytes, at most %d are possible", ds.Name, len(dst), MaxKeyBytes)
	}
	return string(dst), nil
}

func countParts(key []*Field) string {
	names := make([]string, len(key))
	for i, f := range key {
		names[i] = f.Name
	}
	return plural(len(key), "part") + " (" + strings.Join(names, ",") + ")"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func unescapeID(part string) (string, error) {
	switch {
	case part == "~":
		return "", nil
	case part == "":
		return "", fmt.Errorf(`the part is empty; an empty value is written "~"`)
	case strings.IndexByte(part, '~') < 0:
		return part, nil
	}
	b := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		if part[i] != '~' {
			b = append(b, part[i])
			continue
		}
		if i+2 >= len(part) || hexDigit(part[i+1]) < 0 || hexDigit(part[i+2]) < 0 {
			return "", fmt.Errorf(`expected two hexadecimal digits after "~" in %s`, quoteCut(part))
		}
		b = append(b, byte(hexDigit(part[i+1])<<4|hexDigit(part[i+2])))
		i += 2
	}
	return string(b), nil
}
