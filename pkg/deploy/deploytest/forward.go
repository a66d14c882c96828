package deploytest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const forwardProtocol = "portforward.k8s.io"

// Serve says where connections go that are forwarded to a pod of an image: a host with its port.
func (s *Server) Serve(image, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forwards[image] = address
}

// forward is the subresource portforward of a pod, over SPDY.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	at, _ := parsePath(r.URL.Path)
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	allowed := r.Header.Get("Authorization") == "Bearer "+Token
	address := ""
	if pod := s.objects["/Pod/"+at.namespace+"/"+at.name]; pod != nil && isReady(pod) {
		containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
		image, _ := containers[0].(map[string]any)["image"].(string)
		address = s.forwards[image]
	}
	s.mu.Unlock()
	if !allowed || address == "" || r.Header.Get("Upgrade") != "SPDY/3.1" { // Clients try WebSocket first.
		http.Error(w, "no such pod, or not this way", http.StatusBadRequest)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{forwardProtocol}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 64)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	})
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var failures httpstream.Stream
	for {
		select {
		case <-conn.CloseChan():
			return
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				failures = stream
				continue
			}
			go carry(stream, failures, address)
		}
	}
}

// carry copies both ways between a stream and what runs in the pod.
func carry(stream, failures io.ReadWriteCloser, address string) {
	defer func() { _ = failures.Close() }()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(context.Background(), "tcp", address)
	if err != nil {
		_, _ = io.WriteString(failures, err.Error())
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(stream, conn)
		_ = stream.Close()
	})
	both.Wait()
	_ = conn.Close()
}
