package server_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
	"github.com/breakwater-sec/breakwater/internal/server"
)

// guardedHost is a host whose agent is enrolled, and its data folder.
type guardedHost struct {
	*bus.Agent
	id, data string
}

func guard(t *testing.T, s *running, name string, pair nkeys.KeyPair, data string) *guardedHost {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	me, err := s.EnrolLocal(t.Context(), name, public)
	if err != nil {
		t.Fatal(err)
	}
	if err := intel.Trust(data, me.IntelligenceKey); err != nil {
		t.Fatal(err)
	}
	agent, err := bus.Connect(t.Context(), bus.AgentOptions{URL: me.BusURL, CA: me.BusCA, NKeySeed: seed, Agent: me.Agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	return &guardedHost{agent, me.Agent, data}
}

// offered waits until the server hands out another bundle than the one in use.
func (h *guardedHost) offered(t *testing.T) string {
	t.Helper()
	return eventually(t, func() (string, error) {
		said, err := h.Status(t.Context(), event.HostStatus{Agent: h.id, Host: "h"})
		have, haveErr := intel.Current(h.data)
		if err == nil && (said.Intelligence == "" || said.Intelligence == have) {
			err = errors.New("no newer bundle is offered")
		}
		return said.Intelligence, errors.Join(err, haveErr)
	})
}

// install fetches a bundle; parts is called before each part.
func (h *guardedHost) install(ctx context.Context, bundle string, parts func(offset int64)) error {
	head, err := h.Intelligence(ctx, bundle, 0)
	if err != nil {
		return err
	}
	_, err = intel.Install(ctx, h.data, intel.Offer{Manifest: head.Manifest, Signature: head.Signature,
		Part: func(ctx context.Context, offset int64) ([]byte, error) {
			parts(offset)
			p, err := h.Intelligence(ctx, bundle, offset)
			return p.Data[:min(len(p.Data), 8192)], err // so that there are several
		}})
	return err
}

// TestHandsOutIntelligence: two agents get the bundle over their own
// connections; one whose server goes in the middle goes on where it was when
// the server is back, and a newer bundle is handed out without a restart.
func TestHandsOutIntelligence(t *testing.T) {
	data, dir := inteltest.Data(t), t.TempDir()
	hands := func(o *server.Options) { o.Intelligence = data }
	s := start(t, dir, hands)
	pairs := make([]nkeys.KeyPair, 2)
	folders := []string{t.TempDir(), t.TempDir()}
	for i := range pairs {
		var err error
		if pairs[i], err = nkeys.CreateUser(); err != nil {
			t.Fatal(err)
		}
	}
	one, two := guard(t, s, "h1", pairs[0], folders[0]), guard(t, s, "h2", pairs[1], folders[1])
	bundle := one.offered(t)
	if err := one.install(t.Context(), bundle, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Intelligence(t.Context(), "0000", 0); err == nil {
		t.Error("a bundle that is not handed out was given")
	}
	if _, err := one.Intelligence(t.Context(), bundle, -1); err == nil {
		t.Error("byte -1 was given")
	}

	var reached int64
	err := two.install(t.Context(), bundle, func(offset int64) {
		if reached = offset; offset > 0 {
			s.stop()
		}
	})
	if !errors.Is(err, bus.ErrUnreachable) || reached == 0 {
		t.Fatalf("the server went at byte %d: %v", reached, err)
	}
	if id, err := intel.Current(two.data); id != "" || err != nil {
		t.Fatalf("half a bundle is in use: %s, %v", id, err)
	}
	two.Close()
	s = start(t, dir, hands)
	two = guard(t, s, "h2", pairs[1], folders[1])
	first := int64(-1)
	if err := two.install(t.Context(), two.offered(t), func(offset int64) {
		if first < 0 {
			first = offset
		}
	}); err != nil || first != reached {
		t.Errorf("went on at byte %d, was at %d: %v", first, reached, err)
	}
	for _, h := range []*guardedHost{one, two} {
		if m, err := intel.Verify(h.data); err != nil || m.Version == "" {
			t.Errorf("%v", err)
		}
	}

	if _, err := intel.Build(t.Context(), intel.Options{Data: data, Source: inteltest.Serve(t), Program: "test"}); err != nil {
		t.Fatal(err)
	}
	newer := two.offered(t)
	if err := two.install(t.Context(), newer, func(int64) {}); err != nil {
		t.Error(err)
	}
	// The one before is still given to those in the middle of it.
	if _, err := two.Intelligence(t.Context(), bundle, 0); err != nil {
		t.Error(err)
	}
}

// TestNoIntelligence: a server without a bundle offers none, and has its key ready.
func TestNoIntelligence(t *testing.T) {
	data := t.TempDir()
	s := start(t, t.TempDir(), func(o *server.Options) { o.Intelligence = data })
	me, err := s.EnrolLocal(t.Context(), "h", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	if said, err := s.Status(t.Context(), me.Agent, event.HostStatus{Agent: me.Agent, Host: "h"}); err != nil || said.Intelligence != "" {
		t.Errorf("%+v, %v", said, err)
	}
	if key, err := intel.TrustedKey(data); err != nil || !bytes.Equal(me.IntelligenceKey, key) {
		t.Errorf("the agent got key %x, bundles will be signed by %x: %v", me.IntelligenceKey, key, err)
	}
}
