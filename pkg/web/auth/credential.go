package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
)

const (
	authorizationHeader = "Authorization"
	keyHeader           = "X-Api-Key"
	// userinfoHeader is what API Gateway says of the token that it verified: claims in base64url.
	userinfoHeader = "X-Apigateway-Api-Userinfo"
)

const scheme = "bearer"

// bearer returns the token of the one Authorization header.
func bearer(h http.Header) (string, error) {
	values := h[authorizationHeader]
	switch len(values) {
	case 0:
		return "", reasonMissing
	case 1:
	default:
		return "", reasonTwice
	}
	name, text, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(name, scheme) {
		return "", reasonMalformed
	}
	if text == "" {
		return "", reasonMissing
	}
	return text, nil
}

// keyOf returns the API key, from its own header or as a bearer token. Something else in
// Authorization is left alone when the key's header is there: a proxy may have put it there.
func keyOf(h http.Header) (string, error) {
	values := h[keyHeader]
	if len(values) > 1 || len(h[authorizationHeader]) > 1 {
		return "", reasonTwice
	}
	text, err := bearer(h)
	if len(values) == 0 {
		return text, err
	}
	if strings.HasPrefix(text, keyPrefix) && text != values[0] {
		return "", reasonTwice
	}
	return values[0], nil
}

// consumer reads the sub of the one userinfo header.
func consumer(h http.Header, maxBytes int) (sub string, ok bool) {
	values := h[userinfoHeader]
	if len(values) != 1 || len(values[0]) > maxBytes {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(values[0], "="))
	if err != nil {
		return "", false
	}
	obj, err := parseObject(b)
	if err != nil {
		return "", false
	}
	sub, ok = obj.text("sub")
	return sub, ok && sub != "" && len(sub) <= maxSubjectBytes
}
