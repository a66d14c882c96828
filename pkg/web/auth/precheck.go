package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// object is a JSON object with its members as they were written. A map and not a struct, because
// encoding/json would take "EXP" for "exp".
type object map[string]json.RawMessage

// parseObject reads one JSON object that names no member twice, at any depth: two readers of a
// duplicate could take it for different values.
func parseObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("it is not UTF-8")
	}
	obj, err := readObject(b)
	if err != nil {
		return nil, err
	}
	for _, value := range obj {
		if err := checkNested(value); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

func readObject(b []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	obj := object{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("it is not a JSON object")
		}
		if _, twice := obj[name]; twice {
			return nil, errors.New("a member is there twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("a member has no value: %w", err)
		}
		obj[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, errors.New("it is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the object")
	}
	return obj, nil
}

// checkNested looks for duplicate members inside a value.
func checkNested(value json.RawMessage) error {
	switch {
	case len(value) > 0 && value[0] == '{':
		_, err := parseObject(value)
		return err
	case len(value) > 0 && value[0] == '[':
		var items []json.RawMessage
		if err := json.Unmarshal(value, &items); err != nil {
			return err
		}
		for _, item := range items {
			if err := checkNested(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// text returns a member that is a string; ok is false when it is absent or something else.
func (o object) text(name string) (s string, ok bool) {
	raw, there := o[name]
	if !there || len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// token is a JWT that has passed the checks that need no key.
type token struct {
	alg, kid string
	payload  []byte
	claims   object
}

const maxKidBytes = 256

// precheck takes a compact JWT apart before anything is computed from it: bounded, three segments
// in canonical base64url, header and payload JSON objects without duplicate members, an algorithm
// of the list, and a plain kid.
func precheck(text string, maxBytes int, algs []jose.SignatureAlgorithm) (token, error) {
	var t token
	if len(text) > maxBytes {
		return t, reasonTooLong
	}
	if strings.Count(text, ".") != 2 {
		return t, reasonMalformed
	}
	segments := strings.Split(text, ".")
	var raw [3][]byte
	for i, s := range segments {
		// Strict refuses stray bits in the last character, which would give one token several spellings;
		// the decoder itself skips line breaks.
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil || len(b) == 0 || strings.ContainsAny(s, "\r\n") {
			return t, reasonMalformed
		}
		raw[i] = b
	}
	header, err := parseObject(raw[0])
	if err != nil {
		return t, reasonMalformed
	}
	if err := t.readHeader(header, algs); err != nil {
		return t, err
	}
	if t.alg == string(jose.ES256) && len(raw[2]) != es256Bytes {
		return t, reasonSignature
	}
	if t.claims, err = parseObject(raw[1]); err != nil {
		return t, reasonMalformed
	}
	t.payload = raw[1]
	return t, nil
}

const es256Bytes = 64

func (t *token) readHeader(header object, algs []jose.SignatureAlgorithm) error {
	alg, ok := header.text("alg")
	if !ok || !slices.Contains(algs, jose.SignatureAlgorithm(alg)) {
		return reasonAlgorithm
	}
	kid, ok := header.text("kid")
	if !ok || kid == "" || len(kid) > maxKidBytes || strings.ContainsFunc(kid, notInKid) {
		return reasonMalformed
	}
	if _, there := header["crit"]; there {
		return reasonMalformed // Extensions that must be understood, and none is.
	}
	if _, there := header["typ"]; there {
		// A type of its own marks a token that is not for access, such as a logout token.
		typ, _ := header.text("typ")
		typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
		if typ != "jwt" && typ != "at+jwt" {
			return reasonMalformed
		}
	}
	t.alg, t.kid = alg, kid
	return nil
}

func notInKid(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-._~+/=:@", r)
}
