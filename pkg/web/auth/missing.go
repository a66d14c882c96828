package auth

import (
	"fmt"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// MissingError says that a dataset's mode needs a setting that is not set.
type MissingError struct {
	// Dataset and Mode are who needs it; both are empty when BehindGateway does.
	Dataset, Mode string
	// Setting is the key of the setting, such as oidc_issuer.
	Setting string
}

func (e *MissingError) Error() string {
	if e.Mode == "" {
		return fmt.Sprintf("every dataset is behind the gateway, and %s is not set", e.Setting)
	}
	return fmt.Sprintf("dataset %s asks for auth: %s, and %s is not set", e.Dataset, e.Mode, e.Setting)
}

// Check tells whether the options have what the modes of the datasets need.
func (o Options) Check(datasets []*dataset.Dataset) error {
	if o.Open {
		return nil
	}
	for _, ds := range datasets {
		mode := o.mode(ds)
		missing := ""
		switch {
		case mode == ModeAPIKey && o.KeysFile == "":
			missing = "keys_file"
		case mode == ModeOIDC && o.OIDC.Issuer == "":
			missing = "oidc_issuer"
		case mode == ModeOIDC && o.OIDC.Audience == "":
			missing = "oidc_audience"
		case mode == ModeGateway && o.Gateway.Audience == "":
			missing = "gateway_audience"
		case mode == ModeGateway && len(o.Gateway.Emails) == 0:
			missing = "gateway_email"
		}
		if missing != "" {
			if o.BehindGateway {
				return &MissingError{Setting: missing}
			}
			return &MissingError{Dataset: ds.Name, Mode: mode, Setting: missing}
		}
	}
	return nil
}

// mode is what a dataset asks of its callers here.
func (o Options) mode(ds *dataset.Dataset) string {
	if o.BehindGateway {
		return ModeGateway
	}
	return ModeOf(ds)
}

// Unguarded returns the names of the datasets that ask nobody for credentials.
func Unguarded(datasets []*dataset.Dataset) []string {
	var names []string
	for _, ds := range datasets {
		if ModeOf(ds) == ModeNone {
			names = append(names, ds.Name)
		}
	}
	return names
}

// NewOwnerToken makes a token that proves nothing but that its holder could read it.
func NewOwnerToken() telemetry.Secret {
	return telemetry.NewSecret("lo_" + randomText(secretBytes))
}
