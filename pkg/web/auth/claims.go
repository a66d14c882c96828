package auth

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// claims are what is used of a verified token.
type claims struct {
	sub, email    string
	emailVerified bool
	datasets      []string // of the datasets claim; nil when there is none
	expires       time.Time
	notBefore     time.Time // the later of nbf and iat, less the skew; zero when there is neither
}

// valid checks the times, which is all that can change once a token is verified.
func (c *claims) valid(now time.Time) error {
	switch {
	case !now.Before(c.expires):
		return reasonEnded
	case now.Before(c.notBefore):
		return reasonNotYet
	}
	return nil
}

// wanted is what the claims of an issuer's tokens have to say.
type wanted struct {
	issuers       []string
	audience      string
	datasetsClaim string
	skew          time.Duration
}

const maxSubjectBytes = 255

// read checks the claims of a token whose signature is good.
func (w wanted) read(obj object) (*claims, error) {
	if iss, ok := obj.text("iss"); !ok || !slices.Contains(w.issuers, iss) {
		return nil, reasonIssuer
	}
	if !hasAudience(obj["aud"], w.audience) {
		return nil, reasonAudience
	}
	c := &claims{}
	var ok bool
	if c.sub, ok = obj.text("sub"); !ok || c.sub == "" || len(c.sub) > maxSubjectBytes {
		return nil, reasonClaims
	}
	if c.expires, ok = date(obj["exp"]); !ok {
		return nil, reasonClaims
	}
	for _, name := range []string{"iat", "nbf"} {
		raw, there := obj[name]
		if !there {
			continue
		}
		at, ok := date(raw)
		if !ok {
			return nil, reasonClaims
		}
		if at = at.Add(-w.skew); at.After(c.notBefore) {
			c.notBefore = at
		}
	}
	c.email, _ = obj.text("email")
	c.emailVerified = string(obj["email_verified"]) == "true"
	if w.datasetsClaim != "" {
		c.datasets = words(obj[w.datasetsClaim])
	}
	return c, nil
}

// hasAudience takes aud as a string or as an array of strings only.
func hasAudience(raw json.RawMessage, audience string) bool {
	if len(raw) == 0 {
		return false
	}
	list, ok := stringList(raw)
	if raw[0] == '"' {
		var one string
		ok = json.Unmarshal(raw, &one) == nil
		list = []string{one}
	}
	return ok && slices.Contains(list, audience)
}

// stringList reads an array that holds strings and nothing else; encoding/json would take a null
// for an empty string.
func stringList(raw json.RawMessage) ([]string, bool) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, false
	}
	var items []*string
	if json.Unmarshal(raw, &items) != nil {
		return nil, false
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		if item == nil {
			return nil, false
		}
		list = append(list, *item)
	}
	return list, true
}

// words reads a claim that lists names, as an array or in one string as scope does. It is never nil.
func words(raw json.RawMessage) []string {
	if list, ok := stringList(raw); ok {
		return list
	}
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return []string{}
	}
	return append([]string{}, strings.Fields(text)...)
}

// The seconds that a NumericDate may have: to the end of the year 9999.
const maxDateSeconds = 253402300799

// date reads a NumericDate, which has to be a number and may have a fraction.
func date(raw json.RawMessage) (time.Time, bool) {
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds <= 0 || seconds > maxDateSeconds {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*float64(time.Second))), true
}

// opens tells whether the token is meant for a dataset.
func (c *claims) opens(dataset string) bool {
	return c.datasets == nil || slices.Contains(c.datasets, "*") || slices.Contains(c.datasets, dataset)
}
