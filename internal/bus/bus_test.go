package bus_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/spool"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

const patience = 60 * time.Second

type identity struct{ public, seed string }

func newIdentity(t testing.TB) identity {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	return identity{public, string(seed)}
}

// harbour is a running bus with its authority and what it complained of.
type harbour struct {
	*bus.Server
	authority *testenv.Authority
	mu        sync.Mutex
	notices   []string
}

func serve(t testing.TB, agents map[string]string) *harbour {
	t.Helper()
	h := &harbour{authority: testenv.NewAuthority(t)}
	var err error
	h.Server, err = bus.Serve(t.Context(), bus.Options{Dir: t.TempDir(), TLS: h.authority.ServerTLS(t), Agents: agents,
		Notice: func(s string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.notices = append(h.notices, s)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func (h *harbour) noticed(word string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(strings.Join(h.notices, "\n"), word)
}

func (h *harbour) connect(t testing.TB, agent string, id identity) *bus.Agent {
	t.Helper()
	a, err := bus.Connect(t.Context(), bus.AgentOptions{URL: h.URL(), CA: h.authority.PEM, NKeySeed: []byte(id.seed), Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// raw is a client of the protocol that does as it likes.
func (h *harbour) raw(t testing.TB, id identity, options ...nats.Option) (*nats.Conn, chan error) {
	t.Helper()
	problems := make(chan error, 16)
	nc, err := h.dial(id, append(options, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { problems <- err }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, problems
}

func (h *harbour) dial(id identity, options ...nats.Option) (*nats.Conn, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.authority.PEM)
	pair, err := nkeys.FromSeed([]byte(id.seed))
	if err != nil {
		return nil, err
	}
	return nats.Connect(h.URL(), append([]nats.Option{nats.Secure(&tls.Config{RootCAs: roots}), nats.Nkey(id.public, pair.Sign), nats.NoReconnect()}, options...)...)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keep is a store in memory: one row per key.
type keep struct {
	mu   sync.Mutex
	rows map[string]int
	err  error
}

func (k *keep) take(_ context.Context, b api.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	for _, r := range b.Records {
		k.rows[r.Key]++
	}
	return nil
}

func (k *keep) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *keep) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.rows)
}

func (k *keep) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rows[key] > 0
}

func (h *harbour) receive(t testing.TB, k *keep) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Receive(ctx, k.take) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("receive: %v", err)
		}
	})
}

func fill(t testing.TB, n int) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put(t, s, "k", n)
	return s
}

func put(t testing.TB, s *spool.Spool, prefix string, n int) {
	t.Helper()
	for i := range n {
		kind := api.RecordEvent
		if i == n-1 {
			kind = api.RecordIncident
		}
		if _, err := s.Append(t.Context(), kind, fmt.Sprint(prefix, i), time.Now(), []byte(`{"html":"<&>\u2028"}`)); err != nil {
			t.Fatal(err)
		}
	}
}

func uplink(t testing.TB, a *bus.Agent, s *spool.Spool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Uplink(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("uplink: %v", err)
		}
	})
}

func TestRecordsReachTheStoreAndLeaveTheSpool(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	k := &keep{rows: map[string]int{}}
	h.receive(t, k)
	s := fill(t, 5000)
	uplink(t, h.connect(t, "a1", id), s)
	eventually(t, "5000 rows, all acknowledged", func() bool { return k.size() == 5000 && s.Committed() == 5000 })
	if c := h.Counts(); c.Refused != 0 || c.Committed == 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestNothingLeavesTheSpoolBeforeTheStoresCommit(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	k := &keep{rows: map[string]int{}, err: errors.New("database is locked")}
	h.receive(t, k)
	s := fill(t, 50)
	uplink(t, h.connect(t, "a1", id), s)
	eventually(t, "a retry", func() bool { return h.Counts().Retried > 1 && h.noticed("database is locked") })
	if s.Committed() != 0 {
		t.Errorf("committed %d while the store refused", s.Committed())
	}
	k.fail(nil)
	eventually(t, "commit", func() bool { return s.Committed() == 50 && k.size() == 50 })
}

func TestBatchThatCanNeverBeStoredDoesNotBlockTheNext(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	k := &keep{rows: map[string]int{}, err: fmt.Errorf("no such column: %w", bus.ErrRefuse)}
	h.receive(t, k)
	s := fill(t, 10)
	a := h.connect(t, "a1", id)
	uplink(t, a, s)
	eventually(t, "the refusal reaches the agent", func() bool { return a.Refused() == 1 && s.Committed() == 10 })
	k.fail(nil)
	put(t, s, "next", 10)
	eventually(t, "the next batch", func() bool { return k.has("next9") && s.Committed() == 20 })
}

func TestBadBatchesAreRefusedAndCounted(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public, "a2": other.public})
	k := &keep{rows: map[string]int{}}
	h.receive(t, k)
	nc, _ := h.raw(t, id, nats.CustomInboxPrefix("_INBOX.a1"))
	record := `{"seq":1,"kind":"incident","key":"k","time":"2026-01-01T00:00:00Z","body":{}}`
	batch := func(head, records string) string { return `{` + head + `,"epoch":"e","records":[` + records + `]}` }
	for name, c := range map[string]struct{ batch, want string }{
		"not JSON":       {`{`, "malformed"},
		"another agent":  {batch(`"v":1,"agent":"a2"`, record), `claims to be of agent "a2"`},
		"version":        {batch(`"v":2,"agent":"a1"`, record), "version 2"},
		"empty":          {batch(`"v":1,"agent":"a1"`, ""), "0 records"},
		"falling number": {batch(`"v":1,"agent":"a1"`, record+","+record), "record 1 follows record 1"},
		"kind":           {batch(`"v":1,"agent":"a1"`, strings.Replace(record, "incident", "rumour", 1)), "unknown kind"},
		"no body":        {batch(`"v":1,"agent":"a1"`, strings.Replace(record, `,"body":{}`, "", 1)), "no body"},
	} {
		m, err := nc.Request(api.AgentSubject("a1", "records"), []byte(c.batch), patience)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var r api.Reply
		if err := json.Unmarshal(m.Data, &r); err != nil || !strings.Contains(r.Error, c.want) {
			t.Errorf("%s: got %q, want %q", name, r.Error, c.want)
		}
	}
	if c := h.Counts(); c.Refused != 7 || c.Received != 0 {
		t.Errorf("counts %+v", c)
	}
	if m, err := nc.Request(api.AgentSubject("a1", "records"), []byte(batch(`"v":1,"agent":"a1"`, record)), patience); err != nil || strings.Contains(string(m.Data), "error") {
		t.Errorf("a good batch after the bad ones: %v %s", err, m.Data)
	}
	eventually(t, "the good batch is stored", func() bool { return k.size() == 1 })
}

func TestAnAgentCanDoNothingButItsOwn(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public, "a2": other.public})
	nc, problems := h.raw(t, id)
	refused := func(what string) {
		t.Helper()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-problems:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Errorf("%s: was allowed", what)
		}
	}
	for _, subject := range []string{"bw.agent.a2.records", "bw.cmd.a1.ack", "bw.cmd.a2.policy", "bw.stream.a1", "$JS.API.INFO",
		"$JS.API.STREAM.DELETE.AGENTS", "$JS.API.CONSUMER.MSG.NEXT.AGENTS.store", "$JS.ACK.AGENTS.store.1.1.1.1.1", "_INBOX.a1.x", "_INBOX.a2.x", "$SYS.REQ.SERVER.PING"} {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		refused("publish " + subject)
	}
	for _, subject := range []string{">", "bw.>", "bw.agent.>", "bw.agent.a1.records", "bw.cmd.a2.>", "bw.cmd.*.ack", "_INBOX.>", "_INBOX.a2.>", "bw.stream.*", "$JS.>", "$SYS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		refused("subscribe " + subject)
	}
}

func TestAnswersGoToTheAskersInboxOnly(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	k := &keep{rows: map[string]int{}}
	h.receive(t, k)
	nc, _ := h.raw(t, id)
	good := []byte(`{"v":1,"agent":"a1","epoch":"e","records":[{"seq":1,"kind":"incident","key":"k","time":"2026-01-01T00:00:00Z","body":{}}]}`)
	for i, reply := range []string{"$JS.API.STREAM.DELETE.AGENTS", "bw.cmd.a2.policy", "_INBOX.a2.x", "_INBOX.a1"} {
		if err := nc.PublishRequest(api.AgentSubject("a1", "records"), reply, good); err != nil {
			t.Fatal(err)
		}
		eventually(t, "refusal of "+reply, func() bool { return h.Counts().Refused == uint64(i+1) })
	}
	if err := nc.Publish(api.AgentSubject("a1", "records"), good); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream lives", func() bool { return k.size() == 1 })
}

func TestWhoMayConnect(t *testing.T) {
	id, stranger := newIdentity(t), newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	if _, err := h.dial(stranger); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := h.dial(identity{public: id.public, seed: stranger.seed}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("known key, signed with another: %v", err)
	}
	if _, err := nats.Connect(h.URL(), nats.NoReconnect(), nats.RootCAs()); err == nil {
		t.Error("connected without the authority and without a key")
	}
	plain := strings.Replace(h.URL(), "tls://", "nats://", 1)
	if _, err := nats.Connect(plain, nats.NoReconnect()); err == nil {
		t.Error("connected without TLS")
	}
	wrong, err := bus.Connect(t.Context(), bus.AgentOptions{URL: h.URL(), CA: testenv.NewAuthority(t).PEM, NKeySeed: []byte(id.seed), Agent: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	eventually(t, "a complaint about the authority", func() bool {
		err := wrong.Err()
		return err != nil && strings.Contains(err.Error(), "certificate signed by unknown authority")
	})
	if wrong.Connected() {
		t.Error("connected under a wrong authority")
	}
}

func TestAgentsComeAndGoAtRunTime(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, nil)
	a := h.connect(t, "a1", id)
	eventually(t, "refused before enrolment, in words", func() bool {
		err := a.Err()
		return err != nil && strings.Contains(err.Error(), "refuses agent a1: it is not enrolled")
	})
	if err := h.AddAgent("a1", id.public); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected after enrolment", func() bool { return a.Connected() && a.Err() == nil })
	if got := h.Connected(); len(got) != 1 || got[0] != "a1" {
		t.Errorf("connected: %v", got)
	}
	h.RemoveAgent("a1")
	eventually(t, "disconnected by removal", func() bool { return !a.Connected() && len(h.Connected()) == 0 })
	for agent, key := range map[string]string{"a.b": id.public, "": id.public, "a>": id.public, "ok": "UNOTAKEY"} {
		if err := h.AddAgent(agent, key); err == nil {
			t.Errorf("agent %q with key %q was added", agent, key)
		}
	}
}

func TestSecondAgentWithOneIdentityIsRefusedAndNamed(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	first := h.connect(t, "a1", id)
	eventually(t, "first connected", first.Connected)
	second := h.connect(t, "a1", id)
	eventually(t, "second refused", func() bool {
		err := second.Err()
		return err != nil && strings.Contains(err.Error(), "another agent is connected") && h.noticed("two agents use one identity")
	})
	if !first.Connected() {
		t.Error("the first lost its connection")
	}
	first.Close()
	eventually(t, "second takes over when the first is gone", second.Connected)
}

func TestStatusPolicyAndRequests(t *testing.T) {
	id := newIdentity(t)
	h := serve(t, map[string]string{"a1": id.public})
	statuses := make(chan event.HostStatus, 1)
	for _, err := range []error{
		h.HandleStatus(func(_ context.Context, _ string, st event.HostStatus) (api.StatusAnswer, error) {
			statuses <- st
			return api.StatusAnswer{Intelligence: "b1"}, nil
		}),
		h.HandleIntelligence(func(_ context.Context, agent string, r api.IntelligenceRequest) (api.IntelligencePart, error) {
			return api.IntelligencePart{Data: fmt.Appendf(nil, "%s/%s/%d", agent, r.Bundle, r.Offset)}, nil
		}),
		h.HandlePolicy(func(_ context.Context, agent string) (api.Signed, error) {
			return api.Signed{Payload: []byte("for " + agent), KeyID: "k"}, nil
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a := h.connect(t, "a1", id)
	<-a.PolicyChanges() // after the connect
	if said, err := a.Status(t.Context(), event.HostStatus{Agent: "a1", Host: "h"}); err != nil || said.Intelligence != "b1" {
		t.Fatal(err)
	}
	if st := <-statuses; st.Host != "h" {
		t.Errorf("status %+v", st)
	}
	if part, err := a.Intelligence(t.Context(), "b1", 7); err != nil || string(part.Data) != "a1/b1/7" {
		t.Errorf("part %q, %v", part.Data, err)
	}
	if _, err := a.Status(t.Context(), event.HostStatus{Agent: "a2"}); err == nil || !strings.Contains(err.Error(), `agent "a2"`) {
		t.Errorf("status of another agent: %v", err)
	}
	signed, err := a.Policy(t.Context())
	if err != nil || string(signed.Payload) != "for a1" {
		t.Errorf("policy %+v, %v", signed, err)
	}
	if err := a.Request(t.Context(), "nobody", nil, nil); !errors.Is(err, bus.ErrUnreachable) {
		t.Errorf("a kind without a handler: %v", err)
	}
	if err := h.NotifyPolicy("a1"); err != nil {
		t.Fatal(err)
	}
	<-a.PolicyChanges()
}

func TestWrongOptionsAreErrors(t *testing.T) {
	id := newIdentity(t)
	ca := testenv.NewAuthority(t)
	good := bus.AgentOptions{URL: "tls://127.0.0.1:1", CA: ca.PEM, NKeySeed: []byte(id.seed), Agent: "a1"}
	for name, change := range map[string]func(*bus.AgentOptions){
		"no TLS in URL": func(o *bus.AgentOptions) { o.URL = "nats://127.0.0.1:1" },
		"no authority":  func(o *bus.AgentOptions) { o.CA = nil },
		"bad seed":      func(o *bus.AgentOptions) { o.NKeySeed = []byte("SU") },
		"bad id":        func(o *bus.AgentOptions) { o.Agent = "a.*" },
	} {
		o := good
		change(&o)
		if a, err := bus.Connect(t.Context(), o); err == nil {
			a.Close()
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := bus.Serve(t.Context(), bus.Options{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("server without a certificate: %v", err)
	}
	if _, err := bus.Serve(t.Context(), bus.Options{Dir: t.TempDir(), TLS: ca.ServerTLS(t), Listen: "127.0.0.1"}); err == nil {
		t.Error("server without a port: no error")
	}
}
