package query

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/web"
)

const (
	cursorKeyBytes = 32
	cursorVersion  = "v1."
	// maxSealedQueryBytes is how long a query may be to travel inside its cursor.
	maxSealedQueryBytes = 1 << 10
)

// position is what a cursor says: where a query's reading stopped. The dataset and its shape are
// authenticated with it.
type position struct {
	issued time.Time
	// at is the time of the first page: relative times in the query keep their meaning.
	at        time.Time
	queryHash [16]byte
	// query is the canonical query when it is short, sealed tells it from an empty one.
	query  string
	sealed bool
	desc   bool
	// access is the order that was read in, and signature what its keys are made of.
	access    string
	signature [8]byte
	// key is the last key that was read in that order.
	key string
}

func hashQuery(canonical string) (h [16]byte) {
	sum := sha256.Sum256([]byte(canonical))
	copy(h[:], sum[:])
	return h
}

// sealer encrypts and authenticates cursors, so that they show nothing of the row key and cannot be changed.
type sealer struct {
	aead cipher.AEAD
	name string // tells the key from others and does not tell the key
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != cursorKeyBytes {
		return nil, fmt.Errorf("query: the cursor key has %d bytes, expected %d", len(key), cursorKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("query: set up the cursor cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("query: set up the cursor cipher: %w", err)
	}
	sum := sha256.Sum256(append([]byte("name of a cursor key\n"), key...))
	return &sealer{aead: aead, name: hex.EncodeToString(sum[:4])}, nil
}

// The flags of a sealed position.
const (
	flagDesc = 1 << iota
	flagSealed
)

const positionHeadBytes = 1 + 8 + 8 + 16 + 8

func (s *sealer) seal(scope []byte, p position) string {
	plain := make([]byte, 1, positionHeadBytes+2*binary.MaxVarintLen64+len(p.access)+len(p.key)+len(p.query))
	if p.desc {
		plain[0] |= flagDesc
	}
	if p.sealed {
		plain[0] |= flagSealed
	}
	plain = binary.BigEndian.AppendUint64(plain, uint64(p.issued.UnixNano()))
	plain = binary.BigEndian.AppendUint64(plain, uint64(p.at.UnixNano()))
	plain = append(plain, p.queryHash[:]...)
	plain = append(plain, p.signature[:]...)
	for _, text := range []string{p.access, p.key} {
		plain = binary.AppendUvarint(plain, uint64(len(text)))
		plain = append(plain, text...)
	}
	plain = append(plain, p.query...)
	return cursorVersion + base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, scope)) //nolint:gosec // The AEAD makes a random nonce itself and takes none.
}

func (s *sealer) open(scope []byte, cursor string) (position, bool) {
	text, ok := strings.CutPrefix(cursor, cursorVersion)
	if !ok {
		return position{}, false
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return position{}, false
	}
	plain, err := s.aead.Open(nil, nil, box, scope)
	if err != nil {
		return position{}, false
	}
	return decodePosition(plain)
}

func decodePosition(plain []byte) (p position, ok bool) {
	if len(plain) < positionHeadBytes {
		return p, false
	}
	p.desc, p.sealed = plain[0]&flagDesc != 0, plain[0]&flagSealed != 0
	p.issued = time.Unix(0, int64(binary.BigEndian.Uint64(plain[1:])))
	p.at = time.Unix(0, int64(binary.BigEndian.Uint64(plain[9:])))
	copy(p.queryHash[:], plain[17:])
	copy(p.signature[:], plain[33:])
	plain = plain[positionHeadBytes:]
	for _, text := range []*string{&p.access, &p.key} {
		n, size := binary.Uvarint(plain)
		if size <= 0 || n > uint64(len(plain)-size) {
			return p, false
		}
		*text, plain = string(plain[size:size+int(n)]), plain[size+int(n):]
	}
	p.query = string(plain)
	return p, true
}

// signature tells the keys of an access from those of another one, or of the same name with other fields.
func (a access) signature() (sig [8]byte) {
	h := sha256.New()
	_, _ = io.WriteString(h, a.name())
	for _, f := range a.fields {
		_, _ = fmt.Fprintf(h, " %s %s %v", f.Name, f.Type, f.Required)
	}
	copy(sig[:], h.Sum(nil))
	return sig
}

func cursorMismatch(detail, hint string) *web.Problem {
	p := web.NewProblem(web.CursorMismatch, detail, hint)
	p.Errors = []web.Fault{{Parameter: paramCursor, Code: string(web.CursorMismatch)}}
	return p
}
