// Package server is the program that agents report to and people look at: the
// store, the bus, the console, the HTTP API and the policies that agents get.
//
// It speaks TLS only, with certificates of an authority of its own that it
// makes on first start. Trust in it is by the authority's fingerprint.
package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// Options of Open.
type Options struct {
	// Dir is the server's folder: database, keys, certificates, stream.
	Dir string
	// Listen is the console's host:port; "" means 127.0.0.1:8443.
	Listen string
	// BusListen is the agents' host:port; "" means 127.0.0.1:0.
	BusListen string
	// Names are further host names and addresses of the certificate, beside
	// this host's own and the loopback ones.
	Names []string
	// Policies is put in force when there was never any policy: YAML, one or
	// more documents.
	Policies []byte
	// Intelligence is the data folder that bundles lie in, which agents get;
	// "" hands out none.
	Intelligence string
	// Malware is the address of a ClamAV daemon that images of registries are shown
	// to, "" for none; Trust is the file that says whose signatures on them count,
	// "" for nobody's. It may come and change while the server runs.
	Malware, Trust string
	// EventAge and EventRows bound the events that are kept; 0 means 30 days
	// and 1 million.
	EventAge  time.Duration
	EventRows int64
	Version   string
	Log       *slog.Logger         // nil: nothing is logged
	Registry  *prometheus.Registry // nil: one of its own
	Now       func() time.Time     // nil: time.Now
}

// The defaults of Options.
const (
	defaultListen    = "127.0.0.1:8443"
	defaultEventAge  = 30 * 24 * time.Hour
	defaultEventRows = 1_000_000
	keepRejects      = 10_000
	upkeepEvery      = 10 * time.Minute
	shutdownWithin   = 5 * time.Second
)

// ErrConsoleAddress is wrapped by Open's error when the console cannot listen
// where it should; bus.ErrAddress when the bus cannot.
var ErrConsoleAddress = errors.New("console on")

// Server is an open server. Its methods are safe for concurrent use.
type Server struct {
	o        Options
	store    *store.Store
	auth     *auth.Auth
	bus      *bus.Server
	tls      *authority
	signing  ed25519.PrivateKey
	lock     *os.File
	listener net.Listener
	live     *live
	rejudge  chan struct{}
	said     statementsCache
	// judging is read-locked while some images are judged by the bundle in use,
	// and locked when another one takes its place; everything is locked while all
	// images are judged.
	judging    sync.RWMutex
	everything sync.Mutex
	scans      chan struct{}   // one element for each report that is being read
	hunts      chan struct{}   // one element for each search through agents' events
	ending     context.Context // ends with Run
	end        context.CancelFunc
	handouts   *handouts
	matcher    *matcher
	crawler    *crawler
	sealer     *sealer
	layers     *scan.Cache       // what layers of registries hold
	intelKey   ed25519.PublicKey // nil: no bundles are handed out
	metrics    *metrics
	password   string
	keep       atomic.Pointer[retention]
	// detections maps every known id to whether it is always on.
	detections map[string]bool
	builtin    []web.Detection // built-in ones, by id
}

// Open prepares everything: when it returns, the addresses are bound and known,
// and Run serves them. The caller must Close, also after Run.
func Open(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o.filled(), rejudge: make(chan struct{}, 1), scans: make(chan struct{}, scansAtOnce), hunts: make(chan struct{}, maxHunts), handouts: &handouts{data: o.Intelligence}, matcher: &matcher{data: o.Intelligence}, crawler: newCrawler()}
	s.ending, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.Retain(s.o.EventAge, s.o.EventRows)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (o Options) filled() Options {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.EventAge == 0 {
		o.EventAge = defaultEventAge
	}
	if o.EventRows == 0 {
		o.EventRows = defaultEventRows
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (s *Server) open(ctx context.Context) error {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fmt.Errorf("server folder: %w", err)
	}
	var err error
	if s.lock, err = lockFolder(s.o.Dir); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, filepath.Join(s.o.Dir, "breakwater.db"), store.Options{Now: s.o.Now}); err != nil {
		return err
	}
	rules, err := detect.Load(content.Detections())
	if err != nil {
		return err
	}
	s.detections, s.builtin = rules.Known(), listDetections(rules)
	if s.signing, err = signingKey(filepath.Join(s.o.Dir, "keys", "policy.key")); err != nil {
		return err
	}
	if s.sealer, err = openSealer(filepath.Join(s.o.Dir, "keys", "credentials.key")); err != nil {
		return err
	}
	if s.layers, err = scan.OpenCache(filepath.Join(s.o.Dir, "layers"), scan.DefaultCache); err != nil {
		return err
	}
	if s.o.Intelligence != "" {
		if s.intelKey, err = intel.TrustedKey(s.o.Intelligence); err != nil {
			return fmt.Errorf("intelligence key: %w", err)
		}
	}
	if s.tls, err = openAuthority(s.o.Dir, s.o.Names, s.o.Now); err != nil {
		return err
	}
	if s.auth, err = auth.New(ctx, s.store, s.store, s.o.Now); err != nil {
		return err
	}
	if err := s.firstPolicies(ctx); err != nil {
		return err
	}
	s.live = newLive()
	s.metrics = newMetrics(s.o.Registry)
	s.o.Registry.MustRegister(newAgentMetrics(s.store.Agents, s.o.Now))
	if err := s.bind(ctx); err != nil {
		return err
	}
	// Last of all: a password that was made in a start that then failed would
	// never be shown.
	s.password, err = s.auth.FirstUser(ctx)
	return err
}

// bind takes both addresses, so that a wrong one is known before anything runs.
func (s *Server) bind(ctx context.Context) error {
	agents, err := s.store.Agents(ctx)
	if err != nil {
		return err
	}
	known := map[string]string{}
	for _, a := range agents {
		if a.Revoked.IsZero() {
			known[a.ID] = a.NKey
		}
	}
	s.bus, err = bus.Serve(ctx, bus.Options{Dir: filepath.Join(s.o.Dir, "bus"), Listen: s.o.BusListen, TLS: s.tls.config(), Agents: known,
		Notice: func(text string) { s.o.Log.Warn("bus", "notice", text) }})
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	if s.listener, err = lc.Listen(ctx, "tcp", s.o.Listen); err != nil {
		return fmt.Errorf("%w %s: %w", ErrConsoleAddress, s.o.Listen, err)
	}
	return nil
}

// Close ends everything that Open took. It is idempotent only as far as its
// parts are; call it once.
func (s *Server) Close() error {
	s.end()
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.bus != nil {
		s.bus.Close()
	}
	errs = append(errs, s.handouts.close(), s.matcher.close())
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// URL is the console's address.
func (s *Server) URL() string {
	addr, ok := s.listener.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.IsUnspecified() {
		return "https://" + s.listener.Addr().String()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return fmt.Sprintf("https://%s:%d", host, addr.Port)
}

// Fingerprint is the SHA-256 of the server's authority certificate, as colon
// separated hex: what agents pin and people compare.
func (s *Server) Fingerprint() string { return s.tls.fingerprint() }

// CA is the authority's certificate, PEM.
func (s *Server) CA() []byte { return s.tls.pem }

// FirstPassword is the password of the account "admin" when Open made it, else
// "". It is kept nowhere: show it to a terminal or a root-only file, never a log.
func (s *Server) FirstPassword() string { return s.password }

// Store is what the server knows.
func (s *Server) Store() *store.Store { return s.store }

// Auth is its door.
func (s *Server) Auth() *auth.Auth { return s.auth }

// Run serves until ctx ends, then lets running requests finish for a bounded
// time. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	handler, err := s.handler()
	if err != nil {
		return err
	}
	if err := errors.Join(s.bus.HandleStatus(s.Status), s.bus.HandlePolicy(s.PolicyFor), s.bus.HandleIntelligence(s.Intelligence)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serve(ctx, handler) })
	group.Go(func() error { return s.bus.Receive(ctx, s.Ingest) })
	group.Go(func() error { return s.upkeep(ctx) })
	group.Go(func() error { return s.judgeOnChange(ctx) })
	group.Go(func() error { return s.keepHandouts(ctx) })
	group.Go(func() error { return s.judgeByIntelligence(ctx) })
	group.Go(func() error { return s.crawl(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) serve(ctx context.Context, handler http.Handler) error {
	srv := &http.Server{
		Handler:           handler,
		TLSConfig:         s.tls.config(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second, // live streams lift it write by write
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // handshakes that strangers break off
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(s.listener, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("console: %w", err)
	case <-ctx.Done():
	}
	s.live.close()
	s.end()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWithin)
	defer cancel()
	if err := srv.Shutdown(last); err != nil {
		_ = srv.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console: %w", err)
	}
	return ctx.Err()
}

// retention bounds the events that are kept.
type retention struct {
	age  time.Duration
	rows int64
}

// Retain changes the bounds of the events that are kept; 0 is the default of
// Options.
func (s *Server) Retain(age time.Duration, rows int64) {
	if age == 0 {
		age = defaultEventAge
	}
	if rows == 0 {
		rows = defaultEventRows
	}
	s.keep.Store(&retention{age, rows})
}

// upkeep forgets what has ended: old events, old sessions.
func (s *Server) upkeep(ctx context.Context) error {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		n, err := s.store.PruneEvents(ctx, s.o.Now().Add(-s.keep.Load().age), s.keep.Load().rows)
		_, rejectErr := s.store.PruneRejects(ctx, keepRejects)
		err = errors.Join(err, rejectErr, s.auth.Prune(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.o.Log.Error("upkeep failed", "error", err)
		} else if n > 0 {
			s.o.Log.Info("old events pruned", "count", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ingest stores a batch of an agent, exactly once by key, and wakes whoever
// waits for incidents. On an error nothing of it is stored; a batch that can
// never be stored is bus.ErrRefuse.
func (s *Server) Ingest(ctx context.Context, b api.Batch) error {
	got, err := s.store.Ingest(ctx, b)
	if err != nil {
		s.metrics.failed.Inc()
		if errors.Is(err, store.ErrMalformed) { // else it would dam up everybody's
			return errors.Join(bus.ErrRefuse, err)
		}
		s.o.Log.Error("batch not stored; its agent keeps it", "agent", b.Agent, "error", err)
		return err
	}
	s.metrics.ingested(got)
	if got.Rejected > 0 {
		s.o.Log.Warn("records could not be read", "agent", b.Agent, "count", got.Rejected)
	}
	if len(got.Incidents) > 0 {
		s.live.wake()
	}
	s.judge(ctx, got.Images)
	return nil
}

// Status keeps what an agent says about its host, and says what there is for it.
func (s *Server) Status(ctx context.Context, agent string, st event.HostStatus) (api.StatusAnswer, error) {
	if err := s.store.PutStatus(ctx, agent, st); err != nil {
		return api.StatusAnswer{}, err
	}
	raised, err := s.store.RaiseGeneration(ctx, st.Generation, store.Actor{Name: "agent " + agent})
	if raised {
		s.o.Log.Warn("an agent holds a newer policy generation: was the database restored from a backup?", "agent", agent, "generation", st.Generation)
		s.notifyPolicy(ctx)
	}
	return api.StatusAnswer{Intelligence: s.handouts.id()}, err
}

// handler is everything that the console's address serves.
func (s *Server) handler() (http.Handler, error) {
	console, err := web.New(web.Options{Store: s.store, Images: s, Intelligence: s, Statements: s, Detections: s, Auth: s.auth, Policies: s, Registries: s, Request: requestID, Log: s.o.Log, Version: s.o.Version, Now: s.o.Now})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", console)
	mux.HandleFunc("GET /incidents/{id}/evidence", s.consoleEvidence)
	s.routes(mux)
	return s.around(mux), nil
}
