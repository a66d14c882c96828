package auth

import (
	"errors"
	"strings"
	"testing"
)

// TestBehindTheGateway: every dataset wants the gateway's token, whatever it declares, and the
// gateway's own requests use no quota.
func TestBehindTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.BehindGateway, o.KeysFile, o.OIDC = true, "", OIDC{} })
	token := keysOnce().rsa.Sign(w.claims())
	stranger := keysOnce().rsa.Sign(w.claims("email", "other@latam.iam.gserviceaccount.com"))
	for _, ds := range testDatasets() {
		w.expect(w.ask(ds.Name), 401)
		w.expect(w.ask(ds.Name, "X-Api-Key", "lk_x_y"), 401)
		w.expect(w.bearer(ds.Name, keysOnce().rsa.Sign(w.claims("iss", w.issuer.URL))), 401)
		w.expect(w.bearer(ds.Name, stranger), 403)
		w.expect(w.bearer(ds.Name, token), 200)
	}
	for range 5 {
		w.expect(w.bearer("metered-gateway", token), 200)
	}
	alice := []string{"Authorization", "Bearer " + token, userinfoHeader, segment(`{"sub":"alice"}`)}
	w.expect(w.ask("metered-gateway", alice...), 200)
	w.expect(w.ask("metered-gateway", alice...), 200)
	w.expect(w.ask("metered-gateway", alice...), 429)
}

func TestBehindTheGatewayNeedsItsSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		gateway Gateway
		missing string
	}{{Gateway{}, "gateway_audience"}, {Gateway{Audience: "https://x"}, "gateway_email"}} {
		err := Options{BehindGateway: true, Gateway: c.gateway}.Check(testDatasets())
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Setting != c.missing || !strings.HasPrefix(err.Error(), "every dataset is behind the gateway, and "+c.missing) {
			t.Errorf("Check with %+v: %v", c.gateway, err)
		}
	}
}
