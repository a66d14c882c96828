package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// client talks to one cluster. Every request is bounded and retried: all of ours may be sent twice.
type client struct {
	opts    Options
	dynamic dynamic.Interface
	http    *http.Client
	root    *url.URL
	config  *rest.Config

	mu   sync.Mutex
	apis map[schema.GroupVersion]map[string]metav1.APIResource // by kind; nil when the cluster does not have it
}

// maxListBytes bounds the list of an API's resources.
const maxListBytes = 4 << 20

// connect makes a client; it asks nothing yet.
func (m *Manifests) connect(cluster Cluster) (*client, error) {
	cfg, err := m.restConfig(cluster)
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Timeout, cfg.UserAgent = -1, m.opts.Timeout, manager
	cfg.WarningHandlerWithContext = warnings{m.opts.Log}
	web, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, web)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	root, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &client{opts: m.opts, dynamic: dyn, http: web, root: root, config: cfg, apis: map[schema.GroupVersion]map[string]metav1.APIResource{}}, nil
}

func (m *Manifests) restConfig(cluster Cluster) (*rest.Config, error) {
	if len(m.opts.Kubeconfig) > 0 {
		cfg, err := clientcmd.RESTConfigFromKubeConfig(m.opts.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read the kubeconfig: %w", err)
		}
		return cfg, nil
	}
	endpoint := cluster.Endpoint
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("endpoint of the cluster %q is not a host name or an https URL", cluster.Endpoint)
	}
	return &rest.Config{
		Host: endpoint, TLSClientConfig: rest.TLSClientConfig{CAData: cluster.CA},
		WrapTransport: func(next http.RoundTripper) http.RoundTripper { return &bearer{m.opts.Token, next} },
	}, nil
}

// bearer adds the caller's token to requests.
type bearer struct {
	token func(context.Context) (string, error)
	next  http.RoundTripper
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.token(r.Context())
	if err != nil {
		return nil, fmt.Errorf("%w: get a token for the cluster: %w; log in with: gcloud auth application-default login", ErrDenied, err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// warnings logs what the cluster remarks, such as a deprecated field.
type warnings struct{ log *slog.Logger }

func (w warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _, text string) {
	if code == 299 && text != "" {
		w.log.Warn("the cluster remarks", "text", text)
	}
}

// try does one request, again after transient failures.
func (c *client) try(ctx context.Context, doing string, request func(context.Context) error) error {
	delay := c.opts.RetryDelay
	ctx = quiet(ctx)
	for attempt := 0; ; attempt++ {
		bounded, cancel := context.WithTimeout(ctx, c.opts.Timeout)
		err := request(bounded)
		cancel()
		if err == nil || attempt == c.opts.Retries || ctx.Err() != nil || !transient(err) || errors.Is(err, ErrDenied) {
			if err != nil {
				return fmt.Errorf("%s: %w", doing, classify(err))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", doing, ctx.Err())
		case <-time.After(delay/2 + rand.N(delay)): // Half to one and a half.
		}
		delay *= 2
	}
}

// quiet keeps the Kubernetes libraries from writing to the user's terminal: what they log is returned too.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// resource asks the cluster how a kind is called in paths. found is false when it does not have it.
func (c *client) resource(ctx context.Context, gvk schema.GroupVersionKind) (r metav1.APIResource, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gv := gvk.GroupVersion()
	kinds, known := c.apis[gv]
	if !known {
		if kinds, err = c.listAPI(ctx, gv); err != nil {
			return r, false, err
		}
		c.apis[gv] = kinds
	}
	r, found = kinds[gvk.Kind]
	return r, found, nil
}

func (c *client) listAPI(ctx context.Context, gv schema.GroupVersion) (kinds map[string]metav1.APIResource, err error) {
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	err = c.try(ctx, "ask the cluster for its API "+gv.String(), func(ctx context.Context) error {
		var list metav1.APIResourceList
		if err := c.getJSON(ctx, path, &list); apierrors.IsNotFound(err) {
			return nil
		} else if err != nil {
			return err
		}
		kinds = map[string]metav1.APIResource{}
		for _, r := range list.APIResources {
			if !strings.Contains(r.Name, "/") { // With one it is a part, such as deployments/scale.
				kinds[r.Kind] = r
			}
		}
		return nil
	})
	return kinds, err
}

func (c *client) getJSON(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.root.JoinPath(path).String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxListBytes))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return apierrors.NewGenericServerResponse(resp.StatusCode, "get", schema.GroupResource{}, path, "", 0, true)
	}
	return json.Unmarshal(body, into)
}

// on returns the requests for a kind, within the namespace where the kind has them.
func (c *client) on(ctx context.Context, gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	r, found, err := c.resource(ctx, gvk)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &MissingAPIError{APIs: []string{gvk.GroupVersion().String() + " (" + gvk.Kind + ")"}}
	}
	all := c.dynamic.Resource(gvk.GroupVersion().WithResource(r.Name))
	if r.Namespaced {
		return all.Namespace(namespace), nil
	}
	return all, nil
}

// get returns an object, nil when there is none.
func (c *client) get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (o *unstructured.Unstructured, err error) {
	in, err := c.on(ctx, gvk, namespace)
	if err != nil {
		return nil, err
	}
	err = c.try(ctx, "read "+gvk.Kind+"/"+name, func(ctx context.Context) error {
		o, err = in.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			o, err = nil, nil
		}
		return err
	})
	return o, err
}

// list returns our objects of a kind; none when the cluster does not have the kind.
func (c *client) list(ctx context.Context, gvk schema.GroupVersionKind, namespace, selector string) (items []unstructured.Unstructured, err error) {
	in, err := c.on(ctx, gvk, namespace)
	var missing *MissingAPIError
	if errors.As(err, &missing) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	err = c.try(ctx, "list "+gvk.Kind+" in "+namespace, func(ctx context.Context) error {
		list, err := in.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err == nil {
			items = list.Items
		}
		return err
	})
	return items, err
}

// apply sends an object as ours. A dry run returns what would be and changes nothing.
func (c *client) apply(ctx context.Context, o *unstructured.Unstructured, dryRun, force bool) (*unstructured.Unstructured, error) {
	return c.applyAs(ctx, manager, o, dryRun, force)
}

// applyAs is apply under another name: the fields that one name leaves out stay with the other.
func (c *client) applyAs(ctx context.Context, as string, o *unstructured.Unstructured, dryRun, force bool) (result *unstructured.Unstructured, err error) {
	in, err := c.on(ctx, o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", address(o), err)
	}
	opts := metav1.PatchOptions{FieldManager: as, FieldValidation: metav1.FieldValidationStrict, Force: &force}
	doing := "apply " + address(o)
	if dryRun {
		opts.DryRun, doing = []string{metav1.DryRunAll}, doing+" (dry run)"
	}
	err = c.try(ctx, doing, func(ctx context.Context) error {
		result, err = in.Patch(ctx, o.GetName(), types.ApplyPatchType, data, opts)
		return err
	})
	return result, err
}

// remove deletes exactly the object that was seen, and is content when it is gone.
func (c *client) remove(ctx context.Context, o *unstructured.Unstructured) error {
	in, err := c.on(ctx, o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	uid, background := o.GetUID(), metav1.DeletePropagationBackground
	return c.try(ctx, "delete "+address(o), func(ctx context.Context) error {
		err := in.Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}
