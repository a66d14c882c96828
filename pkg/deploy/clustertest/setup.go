package clustertest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// certificates makes an authority and a certificate for everything that listens on this machine. Its
// key signs the tokens of service accounts too.
func (c *Cluster) certificates() {
	c.t.Helper()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	c.CA = []byte(block("CERTIFICATE", caDER))
	c.write("ca.crt", string(c.CA))
	c.write("server.crt", block("CERTIFICATE", leafDER))
	c.write("server.key", block("EC PRIVATE KEY", keyDER))
}

func (c *Cluster) writeKubeconfig() {
	c.t.Helper()
	named := func(value any, key string) []any { return []any{map[string]any{"name": "test", key: value}} }
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": named(map[string]any{"server": c.Endpoint, "certificate-authority-data": c.CA}, "cluster"),
		"users":    named(map[string]any{"token": c.Token}, "user"),
		"contexts": named(map[string]any{"cluster": "test", "user": "test"}, "context"),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.Kubeconfig = text
	c.write("kubeconfig", string(text))
}

// populate makes what a cluster has that somebody works with: nodes in three zones and the definitions.
func (c *Cluster) populate() {
	c.t.Helper()
	for i, zone := range []string{"a", "b", "c"} {
		c.Do("POST", "/api/v1/nodes", map[string]any{
			"apiVersion": "v1", "kind": "Node",
			"metadata": map[string]any{"name": fmt.Sprintf("node-%d", i), "labels": map[string]any{
				"kubernetes.io/hostname": fmt.Sprintf("node-%d", i), "topology.kubernetes.io/zone": "us-central1-" + zone,
			}},
		}, nil)
	}
	for _, o := range c.crds() {
		c.Do("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", o.Object, nil)
	}
	c.WaitFor("the definitions", func(ctx context.Context) (bool, error) {
		served := 0
		for _, api := range []string{"gateway.networking.k8s.io", "networking.gke.io"} {
			var list struct {
				Resources []struct{ Name string }
			}
			if err := c.Get(ctx, "/apis/"+api+"/v1", &list); err != nil {
				return false, err
			}
			for _, r := range list.Resources {
				if !strings.Contains(r.Name, "/") { // With one it is a part, such as gateways/status.
					served++
				}
			}
		}
		return served >= len(c.crds()), nil
	})
	c.WaitFor("the nodes", func(ctx context.Context) (bool, error) {
		var list unstructured.UnstructuredList
		body, err := c.request(ctx, "GET", "/api/v1/nodes", "", nil)
		if err == nil {
			err = list.UnmarshalJSON(body)
		}
		ready := 0
		for _, node := range list.Items {
			if taints, _, _ := unstructured.NestedSlice(node.Object, "spec", "taints"); len(taints) == 0 && node.Object["status"] != nil {
				ready++
			}
		}
		return ready == 3, err
	})
}

// Do is Send; the test fails when it is refused.
func (c *Cluster) Do(method, path string, body, into any) {
	c.t.Helper()
	if err := c.Send(c.t.Context(), method, path, body, into); err != nil {
		c.t.Fatal(err)
	}
}

// Send sends a request to the API server as its administrator. The answer goes into into, unless that
// is nil. A PATCH is a merge patch.
func (c *Cluster) Send(ctx context.Context, method, path string, body, into any) error {
	contentType := "application/json"
	if method == http.MethodPatch {
		contentType = "application/merge-patch+json"
	}
	answer, err := c.request(ctx, method, path, contentType, body)
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	return err
}

// Get asks for what a path has.
func (c *Cluster) Get(ctx context.Context, path string, into any) error {
	return c.Send(ctx, http.MethodGet, path, nil, into)
}

// Stream follows a path, such as one with watch=1, until the context ends.
func (c *Cluster) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	client := c.client()
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("follow %s: %s", path, resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

func (c *Cluster) request(ctx context.Context, method, path, contentType string, body any) ([]byte, error) {
	var data io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		data = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Endpoint+path, data)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %d: %s", method, path, resp.StatusCode, answer)
	}
	return answer, nil
}

func (c *Cluster) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CA)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
}
