package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// ErrUnreachable is wrapped by the errors of calls that the server did not answer.
var ErrUnreachable = errors.New("server unreachable")

// AgentOptions say who an agent is and whom it trusts.
type AgentOptions struct {
	URL      string // tls://host:port
	CA       []byte // PEM: the only authority that is trusted
	NKeySeed []byte // the agent's user seed; Connect does not keep the slice
	Agent    string // id
}

// Agent is an agent's connection. Its methods are safe for concurrent use.
type Agent struct {
	id      string
	conn    *nats.Conn
	policy  chan struct{}
	uplinks chan struct{} // a token for each connection made, for the uplink

	refused atomic.Uint64

	mu   sync.Mutex
	last error
}

// Connect returns at once, connected or not: the connection is tried for as long
// as it takes, with jitter, and again whenever it breaks. Only options that can
// never work are errors. Close ends it; so does the end of ctx.
func Connect(ctx context.Context, o AgentOptions) (*Agent, error) {
	options, err := o.nats()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	a := &Agent{id: o.Agent, policy: make(chan struct{}, 1), uplinks: make(chan struct{}, 1)}
	options = append(options,
		nats.ConnectHandler(func(*nats.Conn) { a.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { a.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { a.note(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { a.note(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.note(err) }))
	if a.conn, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("bus: %s: %w", o.URL, err)
	}
	if _, err := a.conn.Subscribe(api.CommandSubject(a.id, kindPolicy), func(*nats.Msg) { signal(a.policy) }); err != nil {
		a.conn.Close()
		return nil, fmt.Errorf("bus: %s: %w", o.URL, err)
	}
	context.AfterFunc(ctx, a.Close)
	return a, nil
}

func (o AgentOptions) nats() ([]nats.Option, error) {
	if err := checkAgent(o.Agent); err != nil {
		return nil, err
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "tls" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("URL %q: want tls://host:port", o.URL)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(o.CA) {
		return nil, errors.New("CA holds no PEM certificate")
	}
	pair, err := nkeys.FromSeed(o.NKeySeed)
	if err != nil {
		return nil, fmt.Errorf("nkey seed of agent %s: %w", o.Agent, err)
	}
	public, err := pair.PublicKey()
	if err != nil || checkKey(public) != nil {
		return nil, fmt.Errorf("nkey seed of agent %s is not a user's", o.Agent)
	}
	return []nats.Option{
		nats.Name(o.Agent), nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(inbox(o.Agent)),
		nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(), nats.IgnoreDiscoveredServers(),
		nats.CustomReconnectDelay(reconnectDelay), nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // nothing waits in memory: the spool is the buffer
	}, nil
}

// reconnectDelay grows from a fifth of a second to fifteen seconds, with half of
// it left to chance so that many agents do not come back at once.
func reconnectDelay(attempts int) time.Duration {
	d := min(200*time.Millisecond<<min(max(attempts-1, 0), 10), 15*time.Second)
	return d/2 + rand.N(d/2)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is signalled already
	}
}

// connected runs after every connect: what was missed meanwhile is asked for.
func (a *Agent) connected() {
	a.allWell()
	signal(a.policy)
	signal(a.uplinks)
}

func (a *Agent) allWell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = nil
}

func (a *Agent) note(err error) {
	if err == nil {
		return
	}
	if errors.Is(err, nats.ErrAuthorization) || strings.Contains(strings.ToLower(err.Error()), "authorization violation") {
		err = fmt.Errorf("the server refuses agent %s: it is not enrolled, was removed, or another agent is connected with its key: %w", a.id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = err
}

// Err says why the agent is not connected, or what the server refused last; nil
// when all is well.
func (a *Agent) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last != nil {
		return a.last
	}
	if !a.conn.IsConnected() {
		return ErrUnreachable
	}
	return nil
}

// Refused is how many batches the server's store will never take; they left the
// queue and are lost.
func (a *Agent) Refused() uint64 { return a.refused.Load() }

// Connected says whether the server can be reached now.
func (a *Agent) Connected() bool { return a.conn.IsConnected() }

// Close ends the connection.
func (a *Agent) Close() { a.conn.Close() }

// PolicyChanges gives a value when the server has a newer policy bundle, and
// after every connect, since a notice may have been missed. Values coalesce.
func (a *Agent) PolicyChanges() <-chan struct{} { return a.policy }

// Status reports the host to the server.
func (a *Agent) Status(ctx context.Context, status event.HostStatus) (said api.StatusAnswer, err error) {
	err = a.Request(ctx, kindStatus, api.Status{Version: api.Version, Status: status}, &said)
	return said, err
}

// Intelligence asks for a part of a bundle. The caller verifies it.
func (a *Agent) Intelligence(ctx context.Context, bundle string, offset int64) (part api.IntelligencePart, err error) {
	err = a.Request(ctx, kindIntel, api.IntelligenceRequest{Version: api.Version, Bundle: bundle, Offset: offset}, &part)
	return part, err
}

// Policy asks for the agent's policy bundle. The caller verifies it.
func (a *Agent) Policy(ctx context.Context) (signed api.Signed, err error) {
	err = a.Request(ctx, kindPolicy, nil, &signed)
	return signed, err
}

// Request asks the server something: body is sent as JSON, the answer's body is
// read into result unless that is nil. Without a deadline in ctx it waits ten
// seconds. An error of the server's handler comes back as it was said.
func (a *Agent) Request(ctx context.Context, kind string, body, result any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("bus: %s: %w", kind, err)
	}
	return a.request(ctx, kind, data, result)
}

func (a *Agent) request(ctx context.Context, kind string, data []byte, result any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, handleWithin)
		defer cancel()
	}
	m, err := a.conn.RequestWithContext(ctx, api.AgentSubject(a.id, kind), data)
	if err != nil {
		return fmt.Errorf("bus: %s: %w: %w", kind, ErrUnreachable, err)
	}
	var r api.Reply
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return fmt.Errorf("bus: %s: malformed answer: %w", kind, err)
	}
	if r.Error != "" {
		return fmt.Errorf("bus: %s: server: %s", kind, r.Error)
	}
	if result == nil || len(r.Body) == 0 { // a server before this one may have nothing to say
		return nil
	}
	if err := json.Unmarshal(r.Body, result); err != nil {
		return fmt.Errorf("bus: %s: malformed answer: %w", kind, err)
	}
	return nil
}
