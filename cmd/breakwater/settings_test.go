package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/config"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestSettingsAreReadAgain sends SIGHUP: an output that was added connects; a
// wrong file changes nothing and is told.
func TestSettingsAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	srv, err := server.Open(t.Context(), server.Options{Dir: filepath.Join(dir, "server"), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	authority := testenv.NewAuthority(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", authority.ServerTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	connected := make(chan struct{}, 16)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake() // the connection is what is waited for
			connected <- struct{}{}
		}
	}()
	ca, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "breakwater.yaml")
	if err := os.WriteFile(ca, authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(outputs string) {
		text := "apiVersion: breakwater/v1\nkind: Configuration\n" + outputs
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &messages{}
	// SIGHUP must not end the test before keepSettings listens for it.
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGHUP)
	defer signal.Stop(early)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{})
	load := func() (config.Config, error) { return config.Load(file) }
	go func() {
		close(started)
		ended <- keepSettings(ctx, srv, config.Default(), load, dir, slog.New(slog.NewTextHandler(log, nil)))
	}()
	<-started
	hangup(t, log, "the configuration is wrong", func() { write("outputs: [{name: a}]\n") })
	write(fmt.Sprintf("outputs:\n  - name: siem\n    syslog: {address: %q, ca: %s, serverName: localhost}\n", listener.Addr(), ca))
	hangup(t, log, "configuration read again", func() {})
	select {
	case <-connected:
	case <-time.After(30 * time.Second):
		t.Errorf("the new output did not connect: %s", log)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// hangup sends SIGHUP to this process until the log tells of its effect: the
// first may come before keepSettings listens.
func hangup(t *testing.T, log *messages, want string, before func()) {
	t.Helper()
	before()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(log.String(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q: %s", want, log)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // polling
	}
}

// messages is a log that can be read while it is written.
type messages struct {
	mu   sync.Mutex
	text strings.Builder
}

func (m *messages) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *messages) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}
