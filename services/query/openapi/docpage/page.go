// Package docpage shows an OpenAPI document as one HTML page: everything it needs is inside of it, so it
// works without a network, and without JavaScript for reading.
package docpage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"

	"github.com/latamctl/latamctl/services/query/openapi"
)

//go:embed page.html
var layout string

//go:embed page.css
var style string

//go:embed page.js
var script string

// Render makes the page of a document, and the Content-Security-Policy to serve it with: only its own
// style and script run, requests go to its own origin only, nothing is loaded.
func Render(doc *openapi.Document) (html []byte, policy string, err error) {
	// Line ends between elements and end tags that HTML can do without are not sent.
	short := strings.NewReplacer(">\n", ">", "}}\n", "}}", "</td>", "", "</tr>", "", "</th>", "", "</li>", "", "</option>", "").Replace(layout)
	t, err := template.New("page").Funcs(template.FuncMap{"text": text}).Parse(short)
	if err != nil {
		return nil, "", fmt.Errorf("read the layout of the documentation page: %w", err)
	}
	v := newView(doc)
	css, js := strings.TrimSpace(style), strings.TrimSpace(script)
	v.Style, v.Script = template.CSS(css), template.JS(js) //nolint:gosec // Both are our own files.
	var buf bytes.Buffer
	if err := t.Execute(&buf, v); err != nil {
		return nil, "", fmt.Errorf("write the documentation page: %w", err)
	}
	policy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		hashOf(css), hashOf(js))
	return buf.Bytes(), policy, nil
}

// hashOf is the source expression that lets exactly one inline text run.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// text shows `code` in a description as code; everything is escaped.
func text(s string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		escaped := template.HTMLEscapeString(part)
		if i%2 == 1 {
			escaped = "<code>" + escaped + "</code>"
		}
		b.WriteString(escaped)
	}
	return template.HTML(b.String()) //nolint:gosec // Every part is escaped above.
}
