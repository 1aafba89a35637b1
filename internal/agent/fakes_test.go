package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/agent"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// fakeKernel remembers what it was told to enforce.
type fakeKernel struct {
	overlooked string // a container that it knows only when it looks
	mu         sync.Mutex
	def        policy.Run
	assigned   map[string]policy.Run
	known      []enforce.Guarded
	cgroups    map[string]bool // that appeared
	lost       uint64
}

func (k *fakeKernel) Assign(id string, run policy.Run) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.assigned[id] = run
	return nil
}

func (k *fakeKernel) Forget(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.assigned, id)
	return nil
}

func (k *fakeKernel) SetDefault(run policy.Run) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.def = run
	return nil
}

func (k *fakeKernel) run(id string) (policy.Run, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	run, ok := k.assigned[id]
	return run, ok
}

func (k *fakeKernel) standard() policy.Run {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.def
}

func (k *fakeKernel) Assigned() ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.assigned)), nil
}

// Containers are those that ran before and those whose cgroup appeared.
func (k *fakeKernel) Containers() ([]enforce.Guarded, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := slices.Clone(k.known)
	for id := range k.cgroups {
		run, assigned := k.assigned[id]
		if !assigned {
			run = k.def
		}
		all = append(all, enforce.Guarded{ID: id, Generation: run.Generation, Default: !assigned})
	}
	return all, nil
}

func (k *fakeKernel) cgroup(id string, exists bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !exists {
		delete(k.cgroups, id)
		return
	}
	if k.cgroups == nil {
		k.cgroups = map[string]bool{}
	}
	k.cgroups[id] = true
}

// AdoptRunning takes in what the kernel did not tell of.
func (k *fakeKernel) AdoptRunning() ([]string, error) {
	if k.overlooked == "" {
		return nil, nil
	}
	k.cgroup(k.overlooked, true)
	return []string{k.overlooked}, nil
}

func (k *fakeKernel) SetEngineSockets([]string) error    { return nil }
func (k *fakeKernel) SetStorage([]string) error          { return nil }
func (k *fakeKernel) Watch(...string) error              { return nil }
func (k *fakeKernel) Settle() error                      { return nil }
func (k *fakeKernel) Accounts() ([]event.Account, error) { return nil, nil }
func (k *fakeKernel) LostDecisions() (uint64, error)     { return k.lost, nil }

// fakeSensor hands on the events that a test gives it.
type fakeSensor struct{ events chan event.Event }

func (s *fakeSensor) Run(ctx context.Context, handle func(event.Event) bool) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev := <-s.events:
			handle(ev)
		}
	}
}

func (s *fakeSensor) Reconsider(string) {}

func (s *fakeSensor) Tree(string) []event.Process { return nil }

// fakeUplink is a server: it takes what the spool holds and gives a policy.
type fakeUplink struct {
	changes chan struct{}

	mu      sync.Mutex
	records []api.Record
	signed  api.Signed
	asked   int
	away    bool
	handout *intel.Handout // the intelligence that it offers; nil: none
	forged  bool           // with a wrong signature
	parts   int            // of it that were asked for
}

func (u *fakeUplink) Uplink(ctx context.Context, q bus.Queue) error {
	for {
		records, err := q.Read(ctx, q.Committed(), 64, 1<<20)
		if err != nil {
			return err
		}
		u.mu.Lock()
		u.records = append(u.records, records...)
		u.mu.Unlock()
		if err := q.Commit(records[len(records)-1].Sequence); err != nil {
			return err
		}
	}
}

func (u *fakeUplink) PolicyChanges() <-chan struct{} { return u.changes }
func (u *fakeUplink) Refused() uint64                { return 0 }

func (u *fakeUplink) Status(context.Context, event.HostStatus) (api.StatusAnswer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.handout == nil {
		return api.StatusAnswer{}, nil
	}
	return api.StatusAnswer{Intelligence: u.handout.ID}, nil
}

// Intelligence gives small parts, and now and then the server is away.
func (u *fakeUplink) Intelligence(_ context.Context, bundle string, offset int64) (api.IntelligencePart, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts++
	if u.parts%20 == 0 {
		return api.IntelligencePart{}, bus.ErrUnreachable
	}
	if u.handout == nil || bundle != u.handout.ID {
		return api.IntelligencePart{}, errors.New("it is not handed out")
	}
	data, err := u.handout.Part(offset, 4096)
	return api.IntelligencePart{Manifest: u.handout.Manifest, Signature: u.signature(), Data: data}, err
}

func (u *fakeUplink) signature() []byte {
	if u.forged {
		return make([]byte, ed25519.SignatureSize)
	}
	return u.handout.Signature
}

// handOut makes the server offer the bundle in use of a data folder.
func (u *fakeUplink) handOut(t *testing.T, data string, forged bool) string {
	t.Helper()
	h, err := intel.OpenHandout(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handout, u.forged = h, forged
	return h.ID
}

func (u *fakeUplink) Policy(context.Context) (api.Signed, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked++
	if u.away {
		return api.Signed{}, errors.New("server unreachable")
	}
	return u.signed, nil
}

func (u *fakeUplink) of(kind api.RecordKind) []api.Record {
	u.mu.Lock()
	defer u.mu.Unlock()
	var list []api.Record
	for _, r := range u.records {
		if r.Kind == kind {
			list = append(list, r)
		}
	}
	return list
}

// fakeEngine speaks as much of Docker's API as an agent asks for.
type fakeEngine struct {
	t      *testing.T
	socket string
	events chan string // JSON lines of its event stream

	mu         sync.Mutex
	containers map[string]map[string]any
	stopped    []string
	held       chan struct{} // exports of images wait for it; nil: images are unknown
	images     int           // exports that were asked for
	listed     int           // how often it was asked what runs
}

func newEngine(t *testing.T) *fakeEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "bwa") // a socket's path is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &fakeEngine{t: t, socket: filepath.Join(dir, "s"), events: make(chan string), containers: map[string]map[string]any{}}
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(e.answer), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { srv.Close() })
	return e
}

func (e *fakeEngine) answer(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	parts := strings.Split(path, "/")
	w.Header().Set("Api-Version", "1.41")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
		fmt.Fprint(w, "OK")
	case path == "events":
		e.stream(w, r)
	case path == "containers/json":
		e.list(w)
	case len(parts) == 3 && parts[0] == "containers" && parts[2] == "json":
		e.inspect(w, parts[1])
	case len(parts) == 3 && parts[0] == "containers" && parts[2] == "stop":
		e.mu.Lock()
		e.stopped = append(e.stopped, parts[1])
		e.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case e.held != nil && len(parts) == 3 && parts[0] == "images" && parts[2] == "json":
		fmt.Fprintf(w, `{"Id": %q}`, digest)
	case strings.HasPrefix(path, "images/") && strings.HasSuffix(path, "get"):
		e.export(w, r)
	case path == "info":
		fmt.Fprint(w, `{"ID": "x"}`)
	default:
		http.Error(w, `{"message": "no such thing"}`, http.StatusNotFound)
	}
}

// hold makes the engine's exports of images last until the test ends.
func (e *fakeEngine) hold() {
	e.held = make(chan struct{})
	e.t.Cleanup(func() { close(e.held) })
}

func (e *fakeEngine) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images
}

func (e *fakeEngine) export(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.images++
	e.mu.Unlock()
	if e.held != nil {
		select {
		case <-r.Context().Done():
		case <-e.held:
		}
	}
	http.Error(w, `{"message": "no such image"}`, http.StatusNotFound)
}

func (e *fakeEngine) list(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listed++
	all := []map[string]any{}
	for id := range e.containers {
		all = append(all, map[string]any{"Id": id})
	}
	_ = json.NewEncoder(w).Encode(all)
}

func (e *fakeEngine) wasAsked() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listed > 0
}

func (e *fakeEngine) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-e.events:
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	}
}

func (e *fakeEngine) inspect(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		http.Error(w, `{"message": "No such container"}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(c)
}

// add makes a container; host changes its HostConfig.
func (e *fakeEngine) add(id, name string, host map[string]any) {
	config := map[string]any{"Privileged": false, "LogConfig": map[string]any{"Type": "json-file"}, "RestartPolicy": map[string]any{"Name": "no"}}
	maps.Copy(config, host)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[id] = map[string]any{
		"Id": id, "Name": "/" + name, "Image": digest, "Created": "2026-11-22T10:00:00Z", "Platform": "linux",
		"State":  map[string]any{"Pid": 1, "Running": true, "StartedAt": "2026-11-22T10:00:01Z"},
		"Config": map[string]any{"Image": "demo:1", "Labels": map[string]string{}}, "HostConfig": config, "Mounts": []any{},
	}
}

func (e *fakeEngine) wasStopped(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.stopped, id)
}

var digest = "sha256:" + strings.Repeat("d", 64)

// site is an agent with everything around it.
type site struct {
	t      *testing.T
	dir    string
	key    ed25519.PrivateKey
	kernel *fakeKernel
	sensor *fakeSensor
	uplink *fakeUplink
	engine *fakeEngine
	opts   agent.Options
	agent  *agent.Agent
	stop   func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	rules, err := detect.Load(content.Detections())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bwa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, key: private, engine: newEngine(t),
		kernel: &fakeKernel{assigned: map[string]policy.Run{}}, sensor: &fakeSensor{events: make(chan event.Event)},
		uplink: &fakeUplink{changes: make(chan struct{}, 1)}}
	s.write(api.FilePolicyKey, []byte(hex.EncodeToString(public)+"\n"))
	s.opts = agent.Options{ID: "a1", Host: "host", Version: "test", Data: dir, Intel: dir, Sockets: []string{s.engine.socket},
		Kernel: s.kernel, Sensor: s.sensor, Rules: rules, Uplink: s.uplink, Log: slog.New(slog.DiscardHandler)}
	s.uplink.signed = s.sign(s.bundle(1, ""))
	return s
}

func (s *site) write(name string, data []byte) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start runs the agent until the test ends or stop is called, and waits until
// it is ready.
func (s *site) start() {
	s.t.Helper()
	var err error
	if s.agent, err = agent.New(s.opts); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.agent.Run(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				s.t.Errorf("the agent ended with %v", err)
			}
		})
	}
	s.t.Cleanup(s.stop)
	select {
	case <-s.agent.Ready():
	case <-time.After(20 * time.Second):
		s.t.Fatal("the agent is not ready")
	}
	s.until("the gate can be answered", func() bool { _, err := os.Stat(filepath.Join(s.dir, api.SocketAgent)); return err == nil })
}

func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited too long until %s; problems: %v", what, s.agent.Status().Problems)
		}
	}
}

// bundle is a policy bundle for this agent.
func (s *site) bundle(generation uint64, source string) api.PolicyBundle {
	now := time.Now().UTC()
	b := api.PolicyBundle{Version: api.Version, Target: "a1", Generation: generation, Issued: now, Expires: now.Add(time.Hour)}
	if source != "" {
		b.Policies = []api.PolicyFile{{Name: "p", Version: 1, Source: source}}
	}
	return b
}

func (s *site) sign(b api.PolicyBundle) api.Signed {
	s.t.Helper()
	payload, err := json.Marshal(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return api.Signed{Payload: payload, Signature: ed25519.Sign(s.key, append([]byte(api.PolicySignatureContext), payload...))}
}

// offer lets the server have a bundle and waits until the agent has dealt with
// it.
func (s *site) offer(signed api.Signed) {
	s.t.Helper()
	s.uplink.mu.Lock()
	s.uplink.signed = signed
	before := s.uplink.asked
	s.uplink.mu.Unlock()
	s.uplink.changes <- struct{}{}
	// Asked twice: what the first answer led to is done when the second is asked.
	s.until("the server was asked", func() bool { return s.asked() > before })
	s.uplink.changes <- struct{}{}
	s.until("the server was asked again", func() bool { return s.asked() > before+1 })
}

func (s *site) asked() int {
	s.uplink.mu.Lock()
	defer s.uplink.mu.Unlock()
	return s.uplink.asked
}

func (s *site) incidents() []event.Incident {
	s.t.Helper()
	var list []event.Incident
	for _, r := range s.uplink.of(api.RecordIncident) {
		var inc event.Incident
		if err := json.Unmarshal(r.Body, &inc); err != nil {
			s.t.Fatal(err)
		}
		list = append(list, inc)
	}
	return list
}

// appear tells of a container's cgroup.
func (s *site) appear(id string) { s.tell(id, event.NoticeAppeared) }

func (s *site) tell(id, code string) {
	s.kernel.cgroup(id, code == event.NoticeAppeared)
	s.sensor.events <- event.Event{Key: code + "/" + id + time.Now().String(), Kind: event.KindContainer, Time: time.Now().UTC(),
		Container: &event.Container{ID: id}, Notice: &event.Notice{Code: code}}
}

func (s *site) guarded(id string) *event.Guarded {
	for _, g := range s.agent.Status().Containers {
		if g.Container.ID == id {
			return &g
		}
	}
	return nil
}
