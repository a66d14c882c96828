package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// verifier checks the tokens of one issuer.
type verifier struct {
	algs     []jose.SignatureAlgorithm
	maxBytes int
	wanted   wanted
	keys     *jwks
	now      func() time.Time
	verified *verifiedTokens
	onPanic  func(cause any)
}

// verify returns the claims of a good token; the error is a reason. It never panics: a parser that
// does refuses the token.
func (v *verifier) verify(ctx context.Context, text string) (c *claims, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			v.onPanic(cause)
			c, err = nil, reasonPanic
		}
	}()
	if len(text) > v.maxBytes {
		return nil, reasonTooLong
	}
	digest := sha256.Sum256([]byte(text))
	if c = v.verified.find(digest, v.keys.current()); c == nil {
		if c, err = v.verifyAnew(ctx, text, digest); err != nil {
			return nil, err
		}
	}
	if err := c.valid(v.now()); err != nil {
		return nil, err
	}
	return c, nil
}

func (v *verifier) verifyAnew(ctx context.Context, text string, digest [sha256.Size]byte) (*claims, error) {
	t, err := precheck(text, v.maxBytes, v.algs)
	if err != nil {
		return nil, err
	}
	s, set, err := v.keys.find(ctx, t.kid)
	if err != nil {
		return nil, err
	}
	if s.alg != t.alg {
		return nil, reasonAlgorithm
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(s.alg)})
	if err != nil {
		return nil, reasonMalformed
	}
	payload, err := jws.Verify(s.key)
	if err != nil || !bytes.Equal(payload, t.payload) {
		return nil, reasonSignature
	}
	c, err := v.wanted.read(t.claims)
	if err != nil {
		return nil, err
	}
	v.verified.add(digest, c, set)
	return c, nil
}

// verifiedTokens remembers tokens by their hash, so that a caller's signature is checked once and
// not at every request. An entry counts with the very keys that verified it only: keys that are
// withdrawn take their tokens with them. Two generations bound it without bookkeeping.
type verifiedTokens struct {
	max int

	mu       sync.Mutex
	newer    map[[sha256.Size]byte]*claims
	older    map[[sha256.Size]byte]*claims
	verified *keySet
}

func newVerifiedTokens(n int) *verifiedTokens {
	return &verifiedTokens{max: n, newer: map[[sha256.Size]byte]*claims{}}
}

func (t *verifiedTokens) find(digest [sha256.Size]byte, set *keySet) *claims {
	t.mu.Lock()
	defer t.mu.Unlock()
	if set == nil || set != t.verified {
		return nil
	}
	c := t.newer[digest]
	if c == nil {
		if c = t.older[digest]; c != nil {
			t.put(digest, c)
		}
	}
	return c
}

func (t *verifiedTokens) add(digest [sha256.Size]byte, c *claims, set *keySet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if set != t.verified {
		t.newer, t.older, t.verified = map[[sha256.Size]byte]*claims{}, nil, set
	}
	t.put(digest, c)
}

func (t *verifiedTokens) put(digest [sha256.Size]byte, c *claims) {
	if len(t.newer) >= t.max {
		t.older, t.newer = t.newer, make(map[[sha256.Size]byte]*claims, t.max)
	}
	t.newer[digest] = c
}
