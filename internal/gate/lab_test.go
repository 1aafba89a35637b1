package gate_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// workerVariable makes this test binary a gate's worker with these options.
const workerVariable = "BREAKWATER_TEST_GATE_WORKER"

func TestMain(m *testing.M) {
	gate.Steady()
	text := os.Getenv(workerVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	var o gate.Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // a test that was killed leaves no worker behind
		if gate.Lifeline(ctx) == nil {
			os.Exit(0)
		}
	}()
	if err := gate.Work(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lab is a Docker engine with a gate in front.
type lab struct {
	t       testing.TB
	engine  *testenv.Docker
	options gate.Options
	plugin  string // the socket
	key     ed25519.PrivateKey
	busybox string

	stop func() // ends the supervisor
}

// limits satisfy the start section of strictPolicy.
var limits = []string{"--network=none", "--memory=64m", "--pids-limit=64", "--security-opt=no-new-privileges", "--read-only"}

const strictPolicy = `
apiVersion: breakwater/v1
kind: Policy
metadata: {name: strict}
image:
  unscanned: deny
  maxSeverity: high
start:
  privileged: deny
  hostNamespaces: deny
  addedCapabilities: [NET_BIND_SERVICE]
  devices: deny
  mounts: {deny: ["/", "/etc/**", "/var/run/docker.sock"]}
  require: [memoryLimit, pidsLimit, noNewPrivileges, seccomp, readOnlyRootfs]
`

const lenientPolicy = `
apiVersion: breakwater/v1
kind: Policy
metadata: {name: lenient}
image: {unscanned: allow}
`

// newLab starts an engine, and a gate with the policy that the engine asks.
func newLab(t testing.TB, policy string, change ...func(*gate.Options)) *lab {
	t.Helper()
	l := &lab{t: t, engine: testenv.NewDocker(t)}
	dir, err := os.MkdirTemp("/tmp", "bwg") // sockets want short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l.busybox = l.engine.BusyboxImage(t)
	l.plugin = filepath.Join("/run/docker/plugins", filepath.Base(dir)+".sock")
	t.Cleanup(func() { os.Remove(l.plugin) })
	l.options = gate.Options{Data: dir, Engine: l.engine.Socket, OnFailure: gate.FailClosed, ScanTimeout: 10 * time.Second}
	for _, c := range change {
		c(&l.options)
	}
	_, l.key, err = ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		l.setPolicy(1, policy)
	}
	l.startGate(l.worker)
	l.askGate()
	return l
}

// worker is the gate's real worker, in a process of its own.
func (l *lab) worker() *exec.Cmd {
	o := l.options
	o.Log = nil
	text, err := json.Marshal(o)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	cmd.Stderr = testWriter{l.t}
	return cmd
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("gate: %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func (l *lab) startGate(worker func() *exec.Cmd) {
	l.t.Helper()
	listener, err := gate.ListenPlugin(l.t.Context(), l.plugin)
	if err != nil {
		l.t.Fatal(err)
	}
	o := l.options
	o.Log = slog.New(slog.NewTextHandler(testWriter{l.t}, nil))
	s := &gate.Supervisor{Listener: listener, Options: o, Worker: worker}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	l.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				l.t.Errorf("the supervisor ended: %v", err)
			}
		})
	}
	l.t.Cleanup(l.stop)
}

// askGate makes the engine ask the gate.
func (l *lab) askGate() {
	l.t.Helper()
	name := strings.TrimSuffix(filepath.Base(l.plugin), ".sock")
	if err := os.WriteFile(l.engine.ConfigFile, fmt.Appendf(nil, `{"authorization-plugins":[%q]}`, name), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := l.engine.Reload(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { // an engine whose gate is dead refuses to be cleaned up
		os.WriteFile(l.engine.ConfigFile, []byte("{}"), 0o600)
		l.engine.Reload()
		l.engine.Run("version")
	})
	l.until("the engine asks the gate", func() bool {
		_, _, code := l.engine.Run("version")
		return code == 0 && l.status().Asked > 0
	})
	l.until("the worker answers", func() bool { return l.status().Worker != 0 })
}

func (l *lab) status() gate.Status {
	var s gate.Status
	if err := gate.Ask(l.t.Context(), l.plugin, &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// until polls a condition, for half a minute at most.
func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited too long until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *lab) write(name string, data []byte) {
	l.t.Helper()
	path := filepath.Join(l.options.Data, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		l.t.Fatal(err)
	}
}

// setPolicy puts a signed bundle in force, as the agent does.
func (l *lab) setPolicy(generation uint64, source string) {
	l.t.Helper()
	payload, err := json.Marshal(api.PolicyBundle{
		Version: api.Version, Generation: generation, Policies: []api.PolicyFile{{Name: "lab.yaml", Version: 1, Source: source}},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := json.Marshal(api.Signed{Payload: payload, Signature: ed25519.Sign(l.key, append([]byte(api.PolicySignatureContext), payload...))})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(api.FilePolicyKey, []byte(hex.EncodeToString(l.key.Public().(ed25519.PublicKey))))
	l.write(api.FilePolicy, signed)
}

// setReport stores a scan of an image with vulnerabilities of these severities.
func (l *lab) setReport(digest string, severities ...event.Severity) {
	l.t.Helper()
	data, err := json.Marshal(newReport(digest, severities...))
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(filepath.Join(api.DirReports, strings.TrimPrefix(digest, "sha256:")+".json"), data)
}

func newReport(digest string, severities ...event.Severity) report.Report {
	r := report.Report{Schema: report.SchemaVersion, Image: event.Image{Digest: digest}, Intelligence: &report.Intelligence{Version: "1"}}
	for i, s := range severities {
		r.Findings = append(r.Findings, event.Finding{
			ID: fmt.Sprintf("CVE-2026-%04d", i+1), Severity: s, State: event.FixFixed, FixedVersion: "2",
			Package: event.Package{Name: "libexample", Version: "1", Ecosystem: "Debian:12"},
		})
	}
	return r
}

func (l *lab) digest(image string) string {
	l.t.Helper()
	return l.engine.MustRun(l.t, "image", "inspect", "-f", "{{.Id}}", image)
}

// refused runs docker and wants a refusal that says all of want.
func (l *lab) refused(t *testing.T, args []string, want ...string) {
	t.Helper()
	stdout, stderr, code := l.engine.Run(args...)
	if code == 0 {
		t.Errorf("docker %s was allowed: %s", strings.Join(args, " "), stdout)
		return
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("docker %s: the refusal does not say %q:\n%s", strings.Join(args, " "), w, stderr)
		}
	}
}

// run is the arguments of a docker run that strictPolicy allows, and more.
func (l *lab) run(more ...string) []string {
	args := append([]string{"run", "--rm"}, limits...)
	return append(append(args, more...), l.busybox, "true")
}

// send speaks to the engine without the docker client.
func (l *lab) send(t *testing.T, method, target, contentType string, body io.Reader) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://docker", body)
	if err != nil {
		t.Fatal(err)
	}
	q.URL.Opaque = target // as it is, whatever it is
	if contentType != "" {
		q.Header.Set("Content-Type", contentType)
	}
	conn, err := net.Dial("unix", l.engine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go q.Write(conn) // the engine may answer before it has read everything
	r, err := http.ReadResponse(bufio.NewReader(conn), q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(said)
}

// fakeAgent answers on the agent's socket and remembers what it was told.
type fakeAgent struct {
	mu      sync.Mutex
	notes   []event.Event
	starts  []event.Container
	builds  []int
	told    []api.StartNote
	dropped uint64
	scans   []string
	report  func(api.ScanRequest) (report.Report, error)
	// forgetful: it only answers, so that it does not grow under a benchmark.
	forgetful bool

	server *http.Server
}

func (l *lab) startAgent(scan func(api.ScanRequest) (report.Report, error)) *fakeAgent {
	l.t.Helper()
	a := &fakeAgent{report: scan}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/note", receive(a, func(e event.Event) { a.notes = append(a.notes, e) }))
	mux.HandleFunc("POST /v1/start", receive(a, func(n api.StartNote) { a.starts, a.told = append(a.starts, n.Container), append(a.told, n) }))
	mux.HandleFunc("POST /v1/gate", receive(a, func(n api.GateNote) { a.builds, a.dropped = append(a.builds, n.Builds), n.Dropped }))
	mux.HandleFunc("POST /v1/scan", func(w http.ResponseWriter, r *http.Request) {
		var q api.ScanRequest
		err := json.NewDecoder(r.Body).Decode(&q)
		a.mu.Lock()
		a.scans = append(a.scans, q.Digest)
		scan := a.report
		a.mu.Unlock()
		var found report.Report
		if err == nil {
			found, err = scan(q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(found)
	})
	path := filepath.Join(l.options.Data, api.SocketAgent)
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		l.t.Fatal(err)
	}
	a.server = &http.Server{Handler: mux}
	go a.server.Serve(listener)
	l.t.Cleanup(a.stop)
	return a
}

func (a *fakeAgent) stop() { a.server.Close() }

func (a *fakeAgent) scansWith(scan func(api.ScanRequest) (report.Report, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report = scan
}

func receive[T any](a *fakeAgent, take func(T)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v T
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&v); err != nil { // as the agent
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.forgetful {
			take(v)
		}
	}
}

func (a *fakeAgent) seen() (notes []event.Event, starts []event.Container, builds []int, scans []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(notes, a.notes...), append(starts, a.starts...), append(builds, a.builds...), append(scans, a.scans...)
}

var errScan = errors.New("the scanner does not work")

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}
