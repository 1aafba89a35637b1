package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/spool"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// The environment that makes this test binary a server to be killed.
const (
	serveDir  = "BREAKWATER_TEST_SERVE_DIR"
	serveBus  = "BREAKWATER_TEST_SERVE_BUS"
	serveNKey = "BREAKWATER_TEST_SERVE_NKEY"
)

func TestMain(m *testing.M) {
	if scan.IsReader(os.Args) { // the confined child of a scan
		os.Exit(scan.Reader(os.Stdin, os.Stdout))
	}
	if dir := os.Getenv(serveDir); dir != "" {
		if err := serveUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveUntilKilled runs a server that knows one agent, and prints what the
// agent needs.
func serveUntilKilled(dir string) error {
	ctx := context.Background()
	s, err := server.Open(ctx, server.Options{Dir: dir, Listen: "127.0.0.1:0", BusListen: os.Getenv(serveBus)})
	if err != nil {
		return err
	}
	me, err := s.EnrolLocal(ctx, "harbour-1", os.Getenv(serveNKey))
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(me); err != nil {
		return err
	}
	return s.Run(ctx)
}

// child is a server process.
type child struct {
	cmd *exec.Cmd
	me  api.EnrolResponse
}

func spawn(t *testing.T, dir, busAddress, key string) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	c.cmd.Env = append(os.Environ(), serveDir+"="+dir, serveBus+"="+busAddress, serveNKey+"="+key)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	if err := json.Unmarshal(line, &c.me); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait()
}

// TestKillingTheServerLosesNoIncident kills the server again and again while an
// agent reports: every incident that the agent had written down is stored in
// the end, once.
func TestKillingTheServerLosesNoIncident(t *testing.T) {
	dir := t.TempDir()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	srv := spawn(t, dir, "127.0.0.1:0", public)
	address := strings.TrimPrefix(srv.me.BusURL, "tls://")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	agent, err := bus.Connect(ctx, bus.AgentOptions{URL: srv.me.BusURL, CA: srv.me.BusCA, NKeySeed: seed, Agent: srv.me.Agent})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	q, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	uplink := make(chan error, 1)
	go func() { uplink <- agent.Uplink(ctx, q) }()
	written := 0
	stored := func(least int) {
		t.Helper()
		// The database may be read beside the process that writes it.
		eventually(t, func() (int, error) {
			n, err := countKeys(t, filepath.Join(dir, "breakwater.db"))
			if err == nil && n < least {
				err = fmt.Errorf("%d of %d incidents are stored", n, least)
			}
			return n, err
		})
	}
	for round := range 6 {
		for range 40 {
			key := fmt.Sprintf("k%d", written)
			body, _ := json.Marshal(storetest.Incident(key))
			if _, err := q.Append(ctx, api.RecordIncident, key, time.Now(), body); err != nil {
				t.Fatal(err)
			}
			written++
		}
		if round%2 == 0 { // in the middle of storing; else before it began
			stored(written - 39)
		}
		srv.kill(t)
		srv = spawn(t, dir, address, public)
	}
	stored(written)
	cancel()
	<-uplink
	srv.kill(t)
}

// countKeys counts incidents and fails on one that is stored twice.
func countKeys(t *testing.T, path string) (int, error) {
	t.Helper()
	s, err := store.Open(t.Context(), path, store.Options{})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	all, err := s.Incidents(t.Context(), store.IncidentFilter{Limit: store.MaxPage})
	seen := map[string]bool{}
	for _, i := range all {
		if seen[i.Key] {
			t.Fatalf("%s is stored twice", i.Key)
		}
		seen[i.Key] = true
	}
	return len(seen), err
}
