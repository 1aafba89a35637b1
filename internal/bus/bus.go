// Package bus carries what agents and server say to each other: an embedded
// NATS server with JetStream on the server's side, a client that never gives up
// on the agent's.
//
// Every connection is TLS. An agent proves itself with its nkey and may publish
// below bw.agent.<id>. and receive below bw.cmd.<id>. and its own inbox, nothing
// else. No agent reaches JetStream, not even by a reply subject: JetStream would
// send its acknowledgement wherever a publisher asks, so agents hand batches to
// the server, which checks them, answers only into that agent's inbox, and
// publishes to the stream itself.
//
// A batch is freed from the agent's spool only by an api.Ack, which the server
// sends after the store's commit. Everything may be delivered more than once and
// nothing is lost: the store keeps one row per key. The batches of one agent are
// committed in the order in which the agent sent them.
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
)

const (
	streamName    = "AGENTS"
	consumerName  = "store"
	streamSubject = "bw.stream."     // + agent; server only
	maxPayload    = 8 << 20          // bytes of one message; a spool's largest record fits
	maxControl    = 16 << 20         // JetStream's own state beside the stream
	defaultBytes  = int64(2) << 30   // of the stream
	ackWait       = 2 * time.Second  // a batch that a killed server held comes again after this
	startWithin   = 30 * time.Second // embedded server ready
	kindRecords   = "records"
	kindStatus    = "status"
	kindPolicy    = "policy"
	kindIntel     = "intel"
	kindAck       = "ack"
	kindAsk       = "ask"
	kindAnswer    = "answer"
)

// ErrAddress is wrapped by Serve's error when the bus cannot listen where it
// should.
var ErrAddress = errors.New("bus on")

var errNotTLS = errors.New("bus: no TLS certificate: the bus never listens without TLS")

// Options of the server's side.
type Options struct {
	// Dir holds the stream. One process at a time.
	Dir string
	// Listen is host:port; port 0 takes a free one. "" means 127.0.0.1:0.
	Listen string
	// TLS must hold the server's certificate. TLS 1.3 is the least that is spoken.
	TLS *tls.Config
	// MaxBytes bounds the stream; when it is full agents are told to wait and
	// keep what they have. 0 means 2 GiB.
	MaxBytes int64
	// Agents are those known at the start: id to public user nkey.
	Agents map[string]string
	// Notice is told, in one sentence, what went wrong with an agent or the
	// embedded server. It must not block and may be called from any goroutine.
	Notice func(string)
}

// Server is the running bus. Its methods are safe for concurrent use.
type Server struct {
	nats   *server.Server
	conn   *nats.Conn
	stream jetstream.JetStream
	gate   *authenticator
	notice func(string)
	counts counters
	asked  asked

	dir      string
	maxBytes int64
	revived  time.Time // when JetStream was started anew; takeIn's goroutine only
}

type counters struct{ received, committed, refused, retried atomic.Uint64 }

// Counts is what went through the bus since it started, in batches.
type Counts struct {
	Received  uint64 // taken into the stream
	Committed uint64 // by the store
	Refused   uint64 // malformed, or under another agent's name, or never storable
	Retried   uint64 // times that the store could not take one
}

// Serve starts the bus and returns when agents can connect. It runs until Close.
func Serve(ctx context.Context, o Options) (*Server, error) {
	if o.Listen != "" {
		if err := checkFree(ctx, o.Listen); err != nil {
			return nil, err
		}
	}
	s, err := newServer(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("bus in %s: %w", o.Dir, err)
	}
	return s, nil
}

func newServer(o Options) (*Server, error) {
	if o.TLS == nil || len(o.TLS.Certificates) == 0 && o.TLS.GetCertificate == nil {
		return nil, errNotTLS
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	gate, err := newAuthenticator(o.Agents)
	if err != nil {
		return nil, err
	}
	options, err := natsOptions(o, gate)
	if err != nil {
		return nil, err
	}
	n, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	s := &Server{nats: n, gate: gate, notice: o.Notice, dir: o.Dir, maxBytes: o.streamBytes()}
	if s.notice == nil {
		s.notice = func(string) {}
	}
	gate.alive = func(id uint64) bool { return n.GetClient(id) != nil }
	gate.notice = s.notice
	n.SetLoggerV2(logger{s.notice}, false, false, false)
	return s, nil
}

func natsOptions(o Options, gate *authenticator) (*server.Options, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("bus: listen address %q: want host:port: %w", o.Listen, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("bus: listen address %q: port %q is no number up to 65535", o.Listen, port)
	}
	if n == 0 {
		n = 1<<64 - 1 // NATS: a random free port, -1 as int
	}
	config := o.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	return &server.Options{
		ServerName: "breakwater", Host: host, Port: int(n), NoSigs: true,
		TLSConfig: config, TLSTimeout: 5, AuthTimeout: 10,
		CustomClientAuthentication: gate, AlwaysEnableNonce: true,
		MaxPayload: maxPayload, MaxPending: 4 * maxPayload, MaxSubs: 256,
		PingInterval: 10 * time.Second, MaxPingsOut: 2,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true,
		JetStreamMaxMemory: maxControl, JetStreamMaxStore: o.streamBytes() + maxControl,
	}, nil
}

// checkFree says in time what the embedded server would only notice in passing.
func checkFree(ctx context.Context, listen string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrAddress, listen, err)
	}
	return l.Close()
}

func (o Options) streamBytes() int64 {
	if o.MaxBytes > 0 {
		return o.MaxBytes
	}
	return defaultBytes
}

// start brings up the embedded server, the server's own connection inside the
// process, and the stream.
func (s *Server) start(ctx context.Context) error {
	s.nats.Start()
	deadline, _ := ctx.Deadline()
	if !s.nats.ReadyForConnections(time.Until(deadline)) {
		return fmt.Errorf("the embedded NATS server did not start: is another process using %s (what it noticed stands above)?", s.dir)
	}
	if !s.nats.JetStreamEnabled() {
		return errors.New("JetStream did not start: is the folder writable and its disk not full?")
	}
	var err error
	s.conn, err = nats.Connect("", nats.InProcessServer(s.nats), nats.Name("server"), nats.MaxReconnects(-1),
		nats.Nkey(s.gate.serverKey, s.gate.signAsServer))
	if err != nil {
		return err
	}
	if s.stream, err = jetstream.New(s.conn); err != nil {
		return err
	}
	if err := s.openStream(ctx); err != nil {
		return err
	}
	return s.handle(kindRecords, s.takeIn)
}

// Close stops the bus. Agents keep what was not acknowledged.
func (s *Server) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// URL is where agents connect: tls://host:port, as listened on.
func (s *Server) URL() string {
	addr := s.nats.Addr()
	if addr == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "tls://" + addr.String()
	}
	return "tls://" + ap.String()
}

// Counts returns what went through so far.
func (s *Server) Counts() Counts {
	return Counts{Received: s.counts.received.Load(), Committed: s.counts.committed.Load(),
		Refused: s.counts.refused.Load(), Retried: s.counts.retried.Load()}
}

// AddAgent lets an agent connect from now on. nkey is its public user key. An
// agent that is known with another key gets the new one and is disconnected.
func (s *Server) AddAgent(agent, nkey string) error {
	cid, err := s.gate.add(agent, nkey)
	if err == nil && cid != 0 {
		_ = s.nats.DisconnectClientByID(cid) // gone already is as good
	}
	return err
}

// RemoveAgent disconnects an agent and refuses it from now on.
func (s *Server) RemoveAgent(agent string) {
	if cid := s.gate.remove(agent); cid != 0 {
		_ = s.nats.DisconnectClientByID(cid) // gone already is as good
	}
}

// Connected lists the agents that are connected now, sorted.
func (s *Server) Connected() []string { return s.gate.connected() }

// NotifyPolicy tells an agent that a newer policy bundle exists. An agent that is
// away learns it when it connects.
func (s *Server) NotifyPolicy(agent string) error {
	return s.conn.Publish(api.CommandSubject(agent, kindPolicy), nil)
}

// checkAgent keeps anything but a plain word out of subjects.
func checkAgent(agent string) error {
	if ok, _ := regexp.MatchString(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`, agent); !ok {
		return fmt.Errorf("agent id %q: want 1 to 64 letters, digits, - or _", agent)
	}
	return nil
}

func checkKey(nkey string) error {
	if !nkeys.IsValidPublicUserKey(nkey) {
		return fmt.Errorf("nkey %q is not a public user nkey (it starts with U)", nkey)
	}
	return nil
}

// logger passes on what the embedded server thinks is wrong.
type logger struct{ notice func(string) }

func (l logger) Noticef(string, ...any)            {}
func (l logger) Debugf(string, ...any)             {}
func (l logger) Tracef(string, ...any)             {}
func (l logger) Warnf(format string, args ...any)  { l.notice("nats: " + fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.notice("nats: " + fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) { l.notice("nats: " + fmt.Sprintf(format, args...)) }
