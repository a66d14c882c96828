package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// apiPort is the port of serve's API in its pod.
const apiPort = 8080

// forward makes the API of a pod reachable on a free port of this machine, through the API server as
// `kubectl port-forward` does. So neither the network policies nor the load balancer have to let us in.
func (c *client) forward(ctx context.Context, pod string) (baseURL string, closeForward func(), err error) {
	cfg := rest.CopyConfig(c.config)
	cfg.Timeout = 0 // It would end the connection, not the request.
	target := c.root.JoinPath("api/v1/namespaces", c.opts.Values.Name, "pods", pod, "portforward")
	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		return "", nil, fmt.Errorf("forward a port: %w", err)
	}
	overWebsocket, err := portforward.NewSPDYOverWebsocketDialer(target, cfg)
	if err != nil {
		return "", nil, fmt.Errorf("forward a port: %w", err)
	}
	plain := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	dialer := portforward.NewFallbackDialer(overWebsocket, plain, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	forwarding, stop := context.WithCancel(quiet(context.WithoutCancel(ctx)))
	ready, ended := make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddressesWithContext(forwarding, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", apiPort)}, ready, io.Discard, io.Discard)
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("forward a port: %w", err)
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	closeForward = func() {
		stop()
		<-ended //nolint:errcheck // It ends because it was told to.
	}
	select {
	case <-ready:
	case err := <-ended:
		stop()
		return "", nil, fmt.Errorf("forward a port: %w", errors.Join(err, context.Cause(ctx)))
	case <-ctx.Done():
		closeForward()
		return "", nil, context.Cause(ctx)
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) != 1 {
		closeForward()
		return "", nil, fmt.Errorf("forward a port: got %d: %w", len(ports), err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", ports[0].Local), closeForward, nil
}
