// Package estimate computes what a load needs and costs on Google Cloud: nodes, pods, storage and USD
// a month by component. It knows the price list that is built in, and asks nobody.
package estimate

import (
	"bytes"
	_ "embed" // The price list is a file.
	"encoding/json"
	"fmt"
)

//go:embed prices.json
var priceFile []byte

// The ways in which a price was established.
const (
	// SeenPage is a number in the text of the provider's own page.
	SeenPage = "page"
	// SeenCopy is a number that others print, because the provider's page could not be read.
	SeenCopy = "copy"
	// SeenAssumed is a number that no page was found for.
	SeenAssumed = "assumed"
)

// PriceList are list prices of one region.
type PriceList struct {
	Schema   string `json:"schema"`
	Region   string `json:"region"`
	Currency string `json:"currency"`
	// Read is the day on which the list was put together, as 2006-01-02.
	Read   string  `json:"read"`
	Prices []Price `json:"prices"`
}

// Price is what one unit costs, with where the number is from.
type Price struct {
	// Key names it, such as bigtable.node.
	Key string `json:"key"`
	// USD is the price of a Unit, up to the first of Steps.
	USD  float64 `json:"usd"`
	Unit string  `json:"unit"`
	// Free is how many units of a month cost nothing.
	Free float64 `json:"free,omitempty"`
	// Steps are other prices for what lies above an amount, in ascending order.
	Steps []Step `json:"steps,omitempty"`
	// Seen is SeenPage, SeenCopy or SeenAssumed.
	Seen string `json:"seen"`
	URL  string `json:"url"`
	// Read is the day on which the number was read.
	Read string `json:"read"`
	Note string `json:"note"`
}

// Step is the price of what lies above an amount of a month.
type Step struct {
	Above float64 `json:"above"`
	USD   float64 `json:"usd"`
}

// Prices returns the price list that is built in.
func Prices() (*PriceList, error) {
	return ReadPrices(priceFile)
}

// ReadPrices reads a price list. It refuses unknown members, and prices without a source.
func ReadPrices(text []byte) (*PriceList, error) {
	var list PriceList
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("read the price list: %w", err)
	}
	seen := map[string]bool{}
	for i := range list.Prices {
		p := &list.Prices[i]
		if err := p.check(seen[p.Key]); err != nil {
			return nil, fmt.Errorf("read the price list: price %q: %w", p.Key, err)
		}
		seen[p.Key] = true
	}
	return &list, nil
}

func (p *Price) check(twice bool) error {
	switch {
	case p.Key == "" || twice:
		return fmt.Errorf("expected a name of its own")
	case p.USD <= 0 || p.Free < 0 || p.Unit == "":
		return fmt.Errorf("expected an amount above 0 and a unit, got %v for a %q", p.USD, p.Unit)
	case p.Seen != SeenPage && p.Seen != SeenCopy && p.Seen != SeenAssumed:
		return fmt.Errorf("expected seen to be %s, %s or %s, got %q", SeenPage, SeenCopy, SeenAssumed, p.Seen)
	case p.URL == "" || p.Read == "" || p.Note == "":
		return fmt.Errorf("expected url, read and note")
	}
	above := p.Free
	for _, s := range p.Steps {
		if s.Above <= above || s.USD <= 0 {
			return fmt.Errorf("expected steps that ascend, got %v at %v", s.USD, s.Above)
		}
		above = s.Above
	}
	return nil
}

// Find returns a price by its key.
func (l *PriceList) Find(key string) (Price, bool) {
	for _, p := range l.Prices {
		if p.Key == key {
			return p, true
		}
	}
	return Price{}, false
}

// cost is what an amount of a month costs.
func (p *Price) cost(amount float64) float64 {
	total, from, usd := 0.0, p.Free, p.USD
	for _, s := range p.Steps {
		total += usd * max(0, min(amount, s.Above)-from)
		from, usd = s.Above, s.USD
	}
	return total + usd*max(0, amount-from)
}
