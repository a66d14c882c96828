package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// KeysSchema is the schema member of the file of the API keys.
const KeysSchema = "latamctl.keys/v1"

// A key is lk_<id>_<secret>: 8 characters that name it and 52 that prove it (32 random bytes).
const (
	keyPrefix   = "lk_"
	keyIDLen    = 8
	secretBytes = 32
	secretLen   = 52
	keyLen      = len(keyPrefix) + keyIDLen + 1 + secretLen

	maxKeys         = 10_000
	maxKeyNameBytes = 64
	alphabet        = "abcdefghijklmnopqrstuvwxyz234567"
)

// KeyState is what a key is good for now.
type KeyState string

// The states.
const (
	KeyActive  KeyState = "active"
	KeyExpired KeyState = "expired"
	KeyRevoked KeyState = "revoked"
)

// Key is what is kept of an API key. The key itself is shown once and not kept.
type Key struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// SHA256 is the hash of the whole key, in hex.
	SHA256 string `json:"sha256"`
	// Datasets are those that it opens; none is all of them.
	Datasets []string   `json:"datasets"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires,omitempty"`
	Revoked  *time.Time `json:"revoked,omitempty"`

	hash [sha256.Size]byte
}

// State tells whether the key is good at a time.
func (k *Key) State(now time.Time) KeyState {
	switch {
	case k.Revoked != nil:
		return KeyRevoked
	case k.Expires != nil && !now.Before(*k.Expires):
		return KeyExpired
	}
	return KeyActive
}

// Opens tells whether the key is meant for a dataset.
func (k *Key) Opens(dataset string) bool {
	return len(k.Datasets) == 0 || slices.Contains(k.Datasets, dataset)
}

// Keyring is the content of a file of API keys.
type Keyring struct {
	Schema string `json:"schema"`
	Keys   []*Key `json:"keys"`

	byID map[string]*Key
}

// NewKeyring returns one without keys.
func NewKeyring() *Keyring {
	return &Keyring{Schema: KeysSchema, Keys: []*Key{}, byID: map[string]*Key{}}
}

// ParseKeyring reads a file of API keys. It takes nothing that it does not know: a member that was
// misspelt could be one that restricts a key.
func ParseKeyring(b []byte) (*Keyring, error) {
	ring := NewKeyring()
	ring.Schema = ""
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(ring); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("read API keys: not a file of API keys, near byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read API keys: there is more after the document's end, at byte %d", dec.InputOffset())
	}
	if ring.Schema != KeysSchema {
		return nil, fmt.Errorf("read API keys: schema is %q, expected %q", ring.Schema, KeysSchema)
	}
	if len(ring.Keys) > maxKeys {
		return nil, fmt.Errorf("read API keys: there are %d keys, at most %d are read", len(ring.Keys), maxKeys)
	}
	for i, k := range ring.Keys {
		if k == nil {
			return nil, fmt.Errorf("read API keys: key %d is null", i+1)
		}
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("read API keys: key %d (id %q): %w", i+1, k.ID, err)
		}
		if ring.byID[k.ID] != nil {
			return nil, fmt.Errorf("read API keys: key %d: id %q is there twice", i+1, k.ID)
		}
		ring.byID[k.ID] = k
	}
	return ring, nil
}

func (k *Key) check() error {
	if !spelt(k.ID, keyIDLen) {
		return fmt.Errorf("id is not %d characters of %s", keyIDLen, alphabet)
	}
	if err := checkKeyName(k.Name); err != nil {
		return err
	}
	hash, err := hex.DecodeString(k.SHA256)
	if err != nil || len(hash) != sha256.Size {
		return fmt.Errorf("sha256 is not %d hex digits", 2*sha256.Size)
	}
	copy(k.hash[:], hash)
	if slices.Contains(k.Datasets, "") {
		return errors.New("datasets has an empty name")
	}
	if k.Created.IsZero() {
		return errors.New("created is missing")
	}
	return nil
}

func checkKeyName(name string) error {
	if name == "" || len(name) > maxKeyNameBytes {
		return fmt.Errorf("name %q does not have 1 to %d bytes", name, maxKeyNameBytes)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return fmt.Errorf("name %q has a character that cannot be printed", name)
	}
	return nil
}

// spelt tells whether a text is n characters of the alphabet.
func spelt(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// Marshal is the file's content.
func (ring *Keyring) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(ring, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write API keys: %w", err)
	}
	return append(b, '\n'), nil
}

// Create adds a key and returns it with its text, which is not kept. expires is the zero time for a
// key that does not. The name of an active key is taken.
func (ring *Keyring) Create(name string, datasets []string, now, expires time.Time) (telemetry.Secret, *Key, error) {
	if err := checkKeyName(name); err != nil {
		return telemetry.Secret{}, nil, err
	}
	if spelt(name, keyIDLen) && ring.byID[name] != nil {
		return telemetry.Secret{}, nil, fmt.Errorf("name %q is the id of another key", name)
	}
	for _, k := range ring.Keys {
		if k.Name == name && k.State(now) == KeyActive {
			return telemetry.Secret{}, nil, fmt.Errorf("name %q is taken by the active key %s", name, k.ID)
		}
	}
	if len(ring.Keys) >= maxKeys {
		return telemetry.Secret{}, nil, fmt.Errorf("there are %d keys, the most that a file may hold", maxKeys)
	}
	id := randomText(5)
	for ring.byID[id] != nil {
		id = randomText(5)
	}
	text := keyPrefix + id + "_" + randomText(secretBytes)
	k := &Key{ID: id, Name: name, Datasets: append([]string{}, datasets...), Created: now.UTC().Truncate(time.Second), hash: sha256.Sum256([]byte(text))}
	k.SHA256 = hex.EncodeToString(k.hash[:])
	if !expires.IsZero() {
		at := expires.UTC().Truncate(time.Second)
		k.Expires = &at
	}
	ring.Keys, ring.byID[id] = append(ring.Keys, k), k
	return telemetry.NewSecret(text), k, nil
}

// randomText is n random bytes in the alphabet of the keys.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(b)
}

// Errors of Revoke.
var (
	ErrNoKey     = errors.New("no such key")
	ErrAmbiguous = errors.New("several keys have this name")
)

// Revoke ends a key by its id or its name. A key that is revoked already stays as it is. Of several
// keys with one name the active one is meant.
func (ring *Keyring) Revoke(idOrName string, now time.Time) (*Key, error) {
	k := ring.byID[idOrName]
	if k == nil {
		var all, active []*Key
		for _, other := range ring.Keys {
			if other.Name == idOrName {
				all = append(all, other)
				if other.State(now) == KeyActive {
					active = append(active, other)
				}
			}
		}
		switch {
		case len(active) == 1:
			k = active[0]
		case len(all) == 1:
			k = all[0]
		case len(all) > 1:
			return nil, fmt.Errorf("revoke key %q: %w", idOrName, ErrAmbiguous)
		default:
			return nil, fmt.Errorf("revoke key %q: %w", idOrName, ErrNoKey)
		}
	}
	if k.Revoked == nil {
		at := now.UTC().Truncate(time.Second)
		k.Revoked = &at
	}
	return k, nil
}

// splitKey returns the id of a text that has the shape of a key.
func splitKey(text string) (id string, ok bool) {
	if len(text) != keyLen || !strings.HasPrefix(text, keyPrefix) {
		return "", false
	}
	id, secret, _ := strings.Cut(text[len(keyPrefix):], "_")
	return id, spelt(id, keyIDLen) && spelt(secret, secretLen)
}

// find returns the key with this text. An unknown id costs what a known one does.
func (ring *Keyring) find(text string, now time.Time) (*Key, error) {
	id, ok := splitKey(text)
	if !ok {
		return nil, reasonMalformed
	}
	var stored [sha256.Size]byte
	k := ring.byID[id]
	if k != nil {
		stored = k.hash
	}
	hash := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(hash[:], stored[:]) == 1
	switch {
	case k == nil || !same:
		return nil, reasonUnknownKey
	case k.State(now) != KeyActive:
		return nil, reasonEnded
	}
	return k, nil
}
