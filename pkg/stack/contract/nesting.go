package contract

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxNesting is how deeply the values of a .tf file may nest. The parser recurses and sets no limit itself.
const maxNesting = 200

// tooDeep finds the place from which a file nests too deeply for the parser: in brackets, templates,
// signs in a row, and conditions in one item.
func tooDeep(tokens hclsyntax.Tokens) (at hcl.Range, err error) {
	open, signs, conditions := 0, 0, 0
	for _, tk := range tokens {
		switch tk.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			open++
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
			hclsyntax.TokenTemplateSeqEnd:
			open--
		case hclsyntax.TokenQuestion:
			conditions++
		case hclsyntax.TokenNewline:
			if open <= 0 {
				conditions = 0
			}
		}
		switch tk.Type {
		case hclsyntax.TokenMinus, hclsyntax.TokenBang:
			signs++
		default:
			signs = 0
		}
		if max(open, signs) > maxNesting || conditions > 5*maxNesting {
			return tk.Range, fmt.Errorf("the values are nested too deeply: at most %d levels are read", maxNesting)
		}
	}
	return hcl.Range{}, nil
}
