package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
)

// Issuer is a stand-in for an OpenID Connect issuer, and for Google's: it publishes its keys on this
// machine and signs what it is given, right or wrong. It signs with the standard library alone, so
// that it shares no mistakes with what checks it.
type Issuer struct {
	// URL is the issuer; the keys are at URL/keys.
	URL string

	server    *httptest.Server
	discovers atomic.Int64
	fetches   atomic.Int64

	mu           sync.Mutex
	keys         []*IssuerKey
	down         bool
	cacheControl string
	replace      []byte
	hold         chan struct{}
}

// IssuerKey is a signing key: RS256 or ES256.
type IssuerKey struct {
	ID     string
	signer crypto.Signer
	jwk    map[string]any
}

// NewIssuer starts one without keys. Close ends it.
func NewIssuer() *Issuer {
	i := &Issuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.discovers.Add(1)
		i.answer(w, func() []byte {
			return fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		i.answer(w, i.document)
	})
	i.server = httptest.NewServer(mux)
	i.URL = i.server.URL
	return i
}

// Close ends the issuer.
func (i *Issuer) Close() { i.server.Close() }

func (i *Issuer) answer(w http.ResponseWriter, body func() []byte) {
	i.mu.Lock()
	down, hold, cache := i.down, i.hold, i.cacheControl
	i.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if cache != "" {
		w.Header().Set("Cache-Control", cache)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body())
}

func (i *Issuer) document() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.replace != nil {
		return i.replace
	}
	jwks := []any{}
	for _, k := range i.keys {
		jwks = append(jwks, k.jwk)
	}
	b, _ := json.Marshal(map[string]any{"keys": jwks}) // Strings always encode.
	return b
}

// Fetches is how often the keys were asked for.
func (i *Issuer) Fetches() int { return int(i.fetches.Load()) }

// SetDown makes every answer a 502, or good again.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetCacheControl is sent with the keys from now on.
func (i *Issuer) SetCacheControl(value string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cacheControl = value
}

// Replace answers with this body instead of the keys; nil goes back to them.
func (i *Issuer) Replace(body []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.replace = body
}

// Hold lets answers wait until the returned function is called.
func (i *Issuer) Hold() (release func()) {
	hold := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hold = hold
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.hold = nil
		close(hold)
	})
}

// Publish makes the issuer publish these keys and no others.
func (i *Issuer) Publish(keys ...*IssuerKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// NewRSAKey makes a key for RS256.
func NewRSAKey(id string, bits int) *IssuerKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return &IssuerKey{ID: id, signer: key, jwk: map[string]any{
		"kty": "RSA", "kid": id, "alg": "RS256", "use": "sig",
		"n": segment(key.N.Bytes()), "e": segment(big.NewInt(int64(key.E)).Bytes()),
	}}
}

// NewECKey makes a key for ES256.
func NewECKey(id string) *IssuerKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return &IssuerKey{ID: id, signer: key, jwk: map[string]any{
		"kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256", "use": "sig",
		"x": segment(point[1:33]), "y": segment(point[33:]),
	}}
}

// PublicModulus is the key's public part as bytes, for tests that misuse it as a shared secret.
func (k *IssuerKey) PublicModulus() []byte {
	if key, ok := k.signer.(*rsa.PrivateKey); ok {
		return key.N.Bytes()
	}
	return nil
}

func segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Sign makes a token of claims with the header that belongs to the key.
func (k *IssuerKey) Sign(claims map[string]any) string {
	alg := "RS256"
	if _, ec := k.signer.(*ecdsa.PrivateKey); ec {
		alg = "ES256"
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return k.SignRaw(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT","kid":%q}`, alg, k.ID), payload)
}

// SignRaw signs any header and payload.
func (k *IssuerKey) SignRaw(header, payload []byte) string {
	input := segment(header) + "." + segment(payload)
	digest := sha256.Sum256([]byte(input))
	if key, ok := k.signer.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			panic(err)
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return input + "." + segment(signature)
	}
	signature, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return input + "." + segment(signature)
}
