// Package deploy takes the Kubernetes objects of an environment to its cluster: it renders them, says
// by a server-side dry run what would change, applies them server-side, removes what is no longer
// among them, and never touches what others made.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// SectionName is the name of the section of a plan.
const SectionName = "kubernetes"

// manager is the name under which the cluster records our fields.
const manager = "latamctl"

const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
	labelColour    = "latamctl/colour"
)

// Cluster says how to reach the cluster; the zero value is a cluster that does not exist yet.
type Cluster struct {
	Endpoint string // host name or https URL
	CA       []byte // PEM; empty trusts the system's authorities
}

// Options are what Manifests work with. Base and Values are required.
type Options struct {
	// Base has the folder base, the kustomization that is the same for all environments.
	Base   fs.FS
	Values Values
	// DatadogKey is kept in the Secret datadog-keys for the Agent, when it is set.
	DatadogKey telemetry.Secret
	// DatadogSecret and DatadogNamespace say where. Default datadog-keys and datadog.
	DatadogSecret, DatadogNamespace string
	// TakeOver takes objects that others made and fields that others declare.
	TakeOver bool
	// Kubeconfig is the text of a kubeconfig file, whose current context is used instead of a Cluster.
	Kubeconfig []byte
	// Token returns a token for the cluster. Default one of Google's application default credentials.
	Token func(context.Context) (string, error)
	Log   *slog.Logger
	// Timeout bounds one request. Default 30s.
	Timeout time.Duration
	// Retries is how often a request is sent again after a transient failure. Default 4.
	Retries int
	// RetryDelay is the wait before the first retry; it doubles, with jitter. Default 500ms.
	RetryDelay time.Duration
	// Holder names who changes what runs, for others who meet the lock. Default somebody.
	Holder string
	// LeaseDuration is how long the lock of a program counts that shows no sign of life. Default 15s.
	LeaseDuration time.Duration
	// Parallel is how many dry runs are asked for at a time. Default 6.
	Parallel int
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	o.Values = o.Values.Defaults()
	if o.DatadogSecret == "" {
		o.DatadogSecret = "datadog-keys"
	}
	if o.DatadogNamespace == "" {
		o.DatadogNamespace = "datadog"
	}
	if o.Token == nil {
		o.Token = googleToken()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	if o.Holder == "" {
		o.Holder = "somebody"
	}
	if o.LeaseDuration == 0 {
		o.LeaseDuration = 15 * time.Second
	}
	if o.Parallel == 0 {
		o.Parallel = 6
	}
	return o
}

// Validate says what is missing or out of range.
func (o Options) Validate() error {
	errs := []error{o.Values.Validate()}
	if o.Base == nil {
		errs = append(errs, errors.New("kubernetes: the folder of the base is not set"))
	}
	if o.Timeout < time.Millisecond || o.Timeout > 10*time.Minute {
		errs = append(errs, fmt.Errorf("kubernetes: timeout %s is not in 1ms..10m", o.Timeout))
	}
	if o.Retries < 0 || o.Retries > 20 {
		errs = append(errs, fmt.Errorf("kubernetes: %d retries are not in 0..20", o.Retries))
	}
	if o.RetryDelay < time.Millisecond || o.RetryDelay > time.Minute {
		errs = append(errs, fmt.Errorf("kubernetes: retry delay %s is not in 1ms..1m", o.RetryDelay))
	}
	if o.LeaseDuration < time.Millisecond || o.LeaseDuration > 10*time.Minute {
		errs = append(errs, fmt.Errorf("kubernetes: lease of %s is not in 1ms..10m", o.LeaseDuration))
	}
	if o.Parallel < 1 || o.Parallel > 64 {
		errs = append(errs, fmt.Errorf("kubernetes: %d requests at a time are not in 1..64", o.Parallel))
	}
	return errors.Join(errs...)
}

// Manifests are the Kubernetes objects of one environment.
type Manifests struct{ opts Options }

// New checks the options. It asks nothing.
func New(opts Options) (*Manifests, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	return &Manifests{opts: opts}, nil
}

// exists tells whether there is a cluster to ask.
func (m *Manifests) exists(cluster Cluster) bool {
	return cluster.Endpoint != "" || len(m.opts.Kubeconfig) > 0
}
