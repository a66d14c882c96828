package deploy

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/latamctl/latamctl/pkg/plan"
)

// cursorSecret holds the key with which all replicas of serve seal cursors.
const cursorSecret = "serve-cursor" //nolint:gosec // It is the name of an object.

// tokenSecret holds what the parts of the Datadog Agent show each other. The stack observability names it.
const tokenSecret = "datadog-token"

const drawnBytes = 32

func secretKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
}

// secrets are made here and in no file. Each call draws what is drawn anew; the first one that reaches
// the cluster stays.
func (m *Manifests) secrets() []*unstructured.Unstructured {
	all := []*unstructured.Unstructured{m.secret(m.opts.Values.Name, cursorSecret, "key", draw())}
	if m.opts.DatadogKey.IsSet() {
		all = append(all,
			m.secret(m.opts.DatadogNamespace, m.opts.DatadogSecret, "api-key", m.opts.DatadogKey.Reveal()),
			m.secret(m.opts.DatadogNamespace, tokenSecret, "token", draw()))
	}
	return all
}

func draw() string {
	b := make([]byte, drawnBytes)
	_, _ = rand.Read(b) // It never fails.
	return hex.EncodeToString(b)
}

// drawn says whether a secret is drawn once and kept.
func drawn(o *unstructured.Unstructured) bool {
	return o.GetName() == cursorSecret || o.GetName() == tokenSecret
}

func (m *Manifests) secret(namespace, name, key, value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
		"metadata": map[string]any{
			"name": name, "namespace": namespace,
			"labels": map[string]any{labelManagedBy: manager, labelPartOf: m.opts.Values.Name},
		},
		"data": map[string]any{key: base64.StdEncoding.EncodeToString([]byte(value))},
	}}
}

// datadogNamespace is where the Agent's key is kept. The chart of the Agent finds it there and adds to it.
func (m *Manifests) datadogNamespace() []*unstructured.Unstructured {
	if !m.opts.DatadogKey.IsSet() {
		return nil
	}
	return []*unstructured.Unstructured{{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": m.opts.DatadogNamespace},
	}}}
}

// secretSteps compares the secrets. One that somebody else made is theirs, and does as well.
func (p *planner) secretSteps(ctx context.Context) ([]step, error) {
	var steps []step
	for _, ns := range p.m.datadogNamespace() {
		if !p.namespaces[ns.GetName()] {
			steps = append(steps, step{object: ns, once: true, change: change(ns, plan.Create)})
		}
	}
	for _, o := range p.m.secrets() {
		s := step{object: o, once: drawn(o)}
		var err error
		if s.live, err = p.c.get(ctx, secretKind(), o.GetNamespace(), o.GetName()); err != nil {
			return nil, err
		}
		switch {
		case s.live == nil:
			s.change = change(o, plan.Create)
		case s.once, !p.m.ours(s.live):
			continue
		default:
			if s, err = p.update(ctx, s); err != nil {
				return nil, scrub(err, o)
			}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// scrub takes a secret's values out of an error, which may repeat what the cluster refused.
func scrub(err error, o *unstructured.Unstructured) error {
	if err == nil || o == nil || o.GetKind() != "Secret" {
		return err
	}
	message := err.Error()
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	for _, encoded := range data {
		message = strings.ReplaceAll(message, encoded, "[REDACTED]")
		if value, decodeErr := base64.StdEncoding.DecodeString(encoded); decodeErr == nil {
			message = strings.ReplaceAll(message, string(value), "[REDACTED]")
		}
	}
	if message == err.Error() {
		return err
	}
	for _, class := range []error{ErrDenied, ErrUnavailable} {
		if errors.Is(err, class) {
			return fmt.Errorf("%w: %s", class, message)
		}
	}
	return errors.New(message)
}
