package store_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Run("bttest", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, openBttest)
	})
	t.Run("engine", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, openEngine)
	})
	t.Run("cbtemulator", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, openEmulator)
	})
}

func dial(t *testing.T, addr string) []option.ClientOption {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return []option.ClientOption{option.WithGRPCConn(conn)}
}

func openBttest(t *testing.T) storetest.Backend {
	server, err := bttest.NewServer("127.0.0.1:0", grpc.MaxRecvMsgSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return storetest.Backend{Project: "p", Instance: "i", Client: dial(t, server.Addr), OneAdmin: true}
}

func openEngine(t *testing.T) storetest.Backend {
	e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return storetest.Backend{Project: "latam-local", Instance: "latam", Client: e.Bigtable, Strict: true}
}

// openEmulator starts the Cloud SDK's Bigtable emulator, or skips where it is not installed.
func openEmulator(t *testing.T) storetest.Backend {
	program := filepath.Join(sdkRoot(t), "platform", "bigtable-emulator", "cbtemulator")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the Bigtable emulator is not installed (gcloud components install bigtable): %v", err)
	}
	addr := freeAddr(t)
	var output bytes.Buffer
	cmd := exec.Command(program, "-address", addr)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("cbtemulator: %s", output.String())
		}
	})
	b := storetest.Backend{Project: "p", Instance: "i", Client: dial(t, addr)}
	waitForBigtable(t, addr)
	return b
}

func sdkRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: %v", err)
	}
	return string(bytes.TrimSpace(out))
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitForBigtable waits until the server answers that the table does not exist.
func waitForBigtable(t *testing.T, addr string) {
	t.Helper()
	c, err := store.Open(t.Context(), store.Options{Project: "p", Instance: "i", Client: dial(t, addr)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if err = c.Ping(ctx, "none"); errors.Is(err, store.ErrMisconfigured) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the emulator at %s does not answer: %v", addr, err)
		}
	}
}
