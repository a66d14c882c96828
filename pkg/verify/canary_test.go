package verify

import (
	"regexp"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// TestCanariesFitTheirDeclaration makes canaries for a dataset with every type and bound; makeCanary
// has them decoded, so an error is a canary that the declaration would refuse.
func TestCanariesFitTheirDeclaration(t *testing.T) {
	t.Parallel()
	decl, err := dataset.Load("latam.yaml", []byte(`
version: 1
name: latam
datasets:
  all:
    fields:
      code:  {type: string, required: true, pattern: "^[A-Z0-9]{2,3}[0-9]{1,4}(-x|-y)?$"}
      text:  string
      n:     {type: int64, required: true, minimum: -9223372036854775808, maximum: 9223372036854775807}
      small: {type: int64, minimum: 7, maximum: 7}
      f:     {type: float64, minimum: -2.5, maximum: -1.5}
      ok:    bool
      at:    {type: timestamp, required: true, maximum: 2020-01-01T00:00:00Z}
      day:   {type: date, minimum: 2030-01-01}
      raw:   bytes
      doc:   json
    key: [code, n, at]
    time: at
`))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for range 1000 {
		c, err := makeCanary(decl.Datasets[0], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		keys[c.key] = true
	}
	if len(keys) < 990 {
		t.Errorf("1000 canaries have only %d keys", len(keys))
	}
}

func FuzzMatching(f *testing.F) {
	for _, pattern := range []string{`^[A-Z]{3}$`, `\d+`, `(a|b)*c?`, `^\p{L}\w{0,5}$`, `x{2,}`, `.`} {
		f.Add(pattern)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		re, err := regexp.Compile(pattern)
		if err != nil || len(pattern) > 100 {
			t.Skip()
		}
		s, err := matching(pattern)
		if err != nil {
			t.Fatalf("pattern %q compiles, but %v", pattern, err)
		}
		_ = re.MatchString(s) // Assertions such as \b may not hold; Decode has the last word.
	})
}
