package state

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/proc"
)

const (
	// metadataAddress is where Google's machines find out who they are; GCE_METADATA_HOST names another
	// one, as Google's libraries have it.
	metadataAddress = "169.254.169.254"
	// metadataTimeout is long for a server on the same machine, and short for a person.
	metadataTimeout = 2 * time.Second
)

// attachedAccount asks the metadata server which service account this machine has. It goes through no
// proxy, because nothing but the machine itself may answer.
func attachedAccount(ctx context.Context, p *proc.Process) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	url := "http://" + cmp.Or(p.Env("GCE_METADATA_HOST"), metadataAddress) + "/computeMetadata/v1/instance/service-accounts/default/email"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask the metadata server: %w", err)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("ask the metadata server: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // It was only read.
	const most = 1024
	body, err := io.ReadAll(io.LimitReader(answer.Body, most))
	account := strings.TrimSpace(string(body))
	switch {
	case err != nil:
		return "", fmt.Errorf("read what the metadata server says: %w", err)
	case answer.StatusCode != http.StatusOK || answer.Header.Get("Metadata-Flavor") != "Google" || !strings.Contains(account, "@"):
		return "", fmt.Errorf("ask the metadata server: it answers %s, which is no service account", answer.Status)
	}
	return account, nil
}
