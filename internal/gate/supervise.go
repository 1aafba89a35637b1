package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
)

const (
	restartFirst = 50 * time.Millisecond // before a dead worker is started again
	restartMost  = 5 * time.Second
	patience     = 3 * time.Second // a call waits for a worker that is just starting
	heartbeat    = 2 * time.Second // between looks whether the worker answers
	maxDrained   = 64 << 20        // bytes of an answer that nobody looks at
	maxUntold    = 1000            // decisions without a worker, kept for it
)

// Supervisor is the part of the gate that the engine talks to. It holds the
// plugin's socket, passes calls on to the worker, starts a worker that died
// again, and answers by the administrator's choice when there is none. Worker
// and supervisor both hold the socket: when the supervisor is killed, the
// worker takes its place (see Lifeline), and the engine's calls wait in the
// socket's queue meanwhile.
type Supervisor struct {
	// Listener is the plugin's socket.
	Listener *net.UnixListener
	Options  Options
	// Worker makes the command that runs Work in a process of its own.
	Worker func() *exec.Cmd

	client *http.Client
	shared *os.File // the socket, for workers
	asked  atomic.Uint64
	builds *builds

	mu      sync.Mutex
	up      chan struct{} // closed while a worker answers
	deaths  int           // of workers, in a row
	pid     int
	probe   string
	untold  []event.Event
	dropped uint64
}

// ListenPlugin listens where the engine looks for a plugin of the socket's
// name, in the place of a gate that is dead; a living one is an error.
func ListenPlugin(ctx context.Context, socket string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, fmt.Errorf("the plugin's folder: %w (run the gate as root, or name another socket with --plugin-socket)", err)
	}
	if conn, err := (&net.Dialer{Timeout: heartbeat}).DialContext(ctx, "unix", socket); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s is taken: another gate (or plugin of that name) answers there; end it first, or name another socket with --plugin-socket", socket)
	}
	info, err := os.Lstat(socket)
	switch {
	case err == nil && info.Mode()&os.ModeSocket == 0:
		return nil, fmt.Errorf("%s exists and is no socket: remove it, or name another with --plugin-socket", socket)
	case err == nil:
		if err := os.Remove(socket); err != nil {
			return nil, fmt.Errorf("remove the socket of a gate that is dead: %w", err)
		}
	}
	l, err := listenUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil // "unix" listeners are of no other type
}

// Inherited gives the listening socket of a descriptor that was inherited: from
// the supervisor that died, or from systemd (socket activation).
func Inherited(fd uintptr) (*net.UnixListener, error) {
	f := os.NewFile(fd, "plugin socket")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is not a listening unix socket", fd), l.Close())
	}
	return u, nil
}

// Run serves until ctx ends.
func (s *Supervisor) Run(ctx context.Context) error {
	socket := WorkerSocket(s.Options.Data)
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 16,
	}}
	s.up = make(chan struct{})
	s.builds = newBuilds(s.Options, func(ctx context.Context) uint64 { return s.status(ctx).Dropped })
	s.Listener.SetUnlinkOnClose(false) // the worker may go on with it
	var err error
	if s.shared, err = share(s.Listener); err != nil {
		return fmt.Errorf("the plugin's socket: %w", err)
	}
	defer s.shared.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keepWorker(ctx) })
	group.Go(func() error { return s.builds.repeat(ctx) })
	group.Go(func() error { return serve(ctx, s.Listener, s.handler()) })
	return group.Wait()
}

// share duplicates a listener for other processes. Handing a file to a process
// makes the os package switch its open description, which the listener shares,
// to blocking, and a blocked accept could never be ended: hence a file that was
// made while the description was blocking already, which os leaves alone.
func share(l *net.UnixListener) (*os.File, error) {
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "plugin socket"), unix.SetNonblock(fd, true)
}

func (s *Supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathActivate, func(w http.ResponseWriter, r *http.Request) {
		// Only an engine that just began asks this: what another built has ended.
		s.builds.add(r.Context(), -math.MaxInt32)
		writeJSON(w, map[string][]string{"Implements": {"authz"}})
	})
	mux.HandleFunc("POST "+pathRequest, s.onRequest)
	mux.HandleFunc("POST "+pathResponse, s.onResponse)
	mux.HandleFunc("POST "+pathStatus, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.status(r.Context())) })
	return mux
}

// onRequest answers reads itself and passes everything else on.
func (s *Supervisor) onRequest(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	var q request
	if err == nil && len(body) > maxRequest {
		err = fmt.Errorf("more than %d bytes", maxRequest)
	}
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		writeJSON(w, answer{Msg: "the gate does not understand the engine: " + err.Error()})
		return
	}
	c, err := parseCall(q.Method, q.URI)
	if err == nil && c.treat == pass {
		s.remember(q.URI)
		writeJSON(w, answer{Allow: true})
		return
	}
	said, err := s.forward(r.Context(), pathRequest, body)
	var a answer
	if err == nil {
		err = json.Unmarshal(said, &a)
	}
	if err != nil {
		a = s.alone(q, err)
	}
	if a.Allow && c.treat == buildCall {
		s.builds.add(r.Context(), 1)
	}
	writeJSON(w, a)
}

// onResponse is asked after the engine carried a call out; only the end of a
// build matters.
func (s *Supervisor) onResponse(w http.ResponseWriter, r *http.Request) {
	method, uri, err := readAddress(r.Body)
	if err == nil && !isRead(method) {
		if c, err := parseCall(method, uri); err == nil && c.treat == buildCall {
			s.builds.add(r.Context(), -1)
		}
	}
	// The engine goes on with the connection when all was read.
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDrained))
	writeJSON(w, answer{Allow: true})
}

// readAddress reads a call's method and address, and no further: a whole response
// body stands behind them, which is of no interest.
func readAddress(from io.Reader) (method, uri string, err error) {
	d := json.NewDecoder(io.LimitReader(from, maxDrained))
	if _, err = d.Token(); err != nil {
		return "", "", err
	}
	for d.More() && (method == "" || uri == "") {
		name, err := d.Token()
		if err != nil {
			return "", "", err
		}
		switch name {
		case "RequestMethod":
			err = d.Decode(&method)
		case "RequestUri":
			err = d.Decode(&uri)
		default:
			var other json.RawMessage
			err = d.Decode(&other)
		}
		if err != nil {
			return "", "", err
		}
	}
	return method, uri, nil
}

// remember keeps a probe that `gate install` sends through the engine.
func (s *Supervisor) remember(uri string) {
	if !strings.Contains(uri, "breakwater-probe=") {
		return
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return
	}
	probe := u.Query().Get("breakwater-probe")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probe = probe[:min(64, len(probe))]
}

// forward asks the worker. A worker that dies while it judges is asked again
// once it is back: a call is judged anew, nothing was done yet.
func (s *Supervisor) forward(ctx context.Context, path string, body []byte) ([]byte, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		up, deaths := s.up, s.deaths
		s.mu.Unlock()
		if deaths > 2 {
			select {
			case <-up:
			default:
				return nil, fmt.Errorf("the gate's worker died %d times in a row", deaths)
			}
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, errors.New("the gate's worker is dead and did not come back in time")
		}
		said, err := s.ask(ctx, path, body)
		if err == nil || ctx.Err() != nil {
			return said, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, err
		case <-time.After(restartFirst):
		}
	}
}

func (s *Supervisor) ask(ctx context.Context, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Options.ScanTimeout+2*engineTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r, err := s.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	said, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("the gate's worker: %s: %.300s", r.Status, said)
	}
	return said, err
}

// alone answers for a worker that is dead.
func (s *Supervisor) alone(q request, cause error) answer {
	c, err := parseCall(q.Method, q.URI)
	action := string(c.treat)
	if err != nil {
		action = "unknown"
	}
	reason := fmt.Sprintf("The call cannot be judged: %v", cause)
	open := s.Options.OnFailure == FailOpen
	verdict := event.Verdict{Allowed: open, Incomplete: []string{reason}}
	if !open {
		verdict = no("gate.failure", reason,
			"Mend the gate (see `breakwater gate status` and its log), or let the administrator start it with --on-failure=open")
	}
	decision := &event.Decision{Control: event.ControlStart, Effect: event.EffectBlock, Outcome: event.Prevented, Why: reason, Mechanism: "gate"}
	if open {
		decision.Outcome = event.NotCovered
	}
	s.Options.Log.Error("answered without the worker", "call", q.Method+" "+c.path, "open", open, "error", cause)
	s.tellLater(event.Event{
		Time: time.Now().UTC(), Decision: decision,
		Gate: &event.Gate{Engine: "docker", Action: action, User: short(q.User), Verdict: verdict},
	})
	if open {
		return answer{Allow: true}
	}
	return answer{Msg: refusal(ruling{verdict: verdict})}
}

func (s *Supervisor) tellLater(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.untold) >= maxUntold {
		s.dropped++
		return
	}
	s.untold = append(s.untold, e)
}

// tell gives a worker that came back what was decided without it.
func (s *Supervisor) tell(ctx context.Context) {
	for {
		s.mu.Lock()
		if len(s.untold) == 0 {
			s.mu.Unlock()
			return
		}
		e := s.untold[0]
		s.mu.Unlock()
		body, err := json.Marshal(e)
		if err == nil {
			_, err = s.ask(ctx, pathNote, body)
		}
		if err != nil {
			s.Options.Log.Warn("a decision was not written down yet", "error", err)
			return
		}
		s.mu.Lock()
		s.untold = s.untold[1:]
		s.mu.Unlock()
	}
}

func (s *Supervisor) status(ctx context.Context) Status {
	st := Status{Engine: s.Options.Engine, Data: s.Options.Data, OnFailure: s.Options.OnFailure, Allow: s.Options.Allow}
	ctx, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	said, err := s.ask(ctx, pathStatus, nil)
	if err == nil {
		err = json.Unmarshal(said, &st)
	}
	if err != nil {
		st.Problem = "the gate's worker does not answer: " + err.Error()
	}
	st.Supervisor, st.Asked = os.Getpid(), s.asked.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Probe = s.probe
	st.Waiting += uint64(len(s.untold))
	st.Dropped += s.dropped
	return st
}

// keepWorker runs one worker after the other until ctx ends.
func (s *Supervisor) keepWorker(ctx context.Context) error {
	pause := restartFirst
	for ctx.Err() == nil {
		started := time.Now()
		err := s.runWorker(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.Options.Log.Error("the gate's worker ended; it is started again", "error", err)
		if time.Since(started) > 2*restartMost {
			pause = restartFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, restartMost)
	}
	return nil
}

// runWorker starts a worker, watches it, and returns when it is dead.
func (s *Supervisor) runWorker(ctx context.Context) error {
	lifeline, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	cmd := s.Worker()
	cmd.ExtraFiles = []*os.File{s.shared, lifeline} // descriptors FDListener and FDLifeline
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	lifeline.Close()
	if err != nil {
		s.markDown()
		return fmt.Errorf("start the gate's worker: %w", err)
	}
	dead := make(chan error, 1)
	go func() { dead <- cmd.Wait() }()
	err = s.watch(ctx, cmd, dead)
	s.markDown()
	return err
}

// watch marks the worker as up while it answers; it ends one that is dead,
// hangs, or is no longer wanted.
func (s *Supervisor) watch(ctx context.Context, cmd *exec.Cmd, dead <-chan error) error {
	beat := time.NewTimer(0)
	defer beat.Stop()
	for {
		select {
		case err := <-dead:
			return err
		case <-ctx.Done():
			return s.end(cmd, dead)
		case <-beat.C:
		}
		up := s.answers(ctx)
		switch {
		case up && s.markUp(cmd.Process.Pid):
			s.tell(ctx)
			beat.Reset(heartbeat)
		case up:
			beat.Reset(heartbeat)
		case s.isUp():
			s.Options.Log.Error("the gate's worker does not answer; it is ended", "pid", cmd.Process.Pid)
			return errors.Join(cmd.Process.Kill(), <-dead)
		default:
			beat.Reset(restartFirst / 5) // it is starting
		}
	}
}

// end asks the worker to end, and ends it.
func (s *Supervisor) end(cmd *exec.Cmd, dead <-chan error) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return <-dead
	}
	select {
	case err := <-dead:
		return err
	case <-time.After(5 * time.Second):
		return errors.Join(cmd.Process.Kill(), <-dead)
	}
}

func (s *Supervisor) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	_, err := s.ask(ctx, pathStatus, nil)
	return err == nil
}

func (s *Supervisor) isUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid != 0
}

// markUp says that the worker answers; it reports whether that is news.
func (s *Supervisor) markUp(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == pid {
		return false
	}
	s.pid, s.deaths = pid, 0
	close(s.up)
	return true
}

func (s *Supervisor) markDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths++
	if s.pid != 0 {
		s.pid, s.up = 0, make(chan struct{})
	}
}

// The descriptors that a worker inherits.
const (
	FDListener = 3 // the plugin's socket, for the case that it must take over
	FDLifeline = 4 // reads end of file when the supervisor is dead
)

// Lifeline waits until the supervisor of this worker is dead; ctx ends the
// wait early with its error. The worker must then become the supervisor, with
// the socket on FDListener.
func Lifeline(ctx context.Context) error {
	if err := syscall.SetNonblock(FDLifeline, true); err != nil {
		return err
	}
	f := os.NewFile(FDLifeline, "lifeline")
	if f == nil {
		return errors.New("no lifeline was inherited")
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	_, err := f.Read(make([]byte, 1))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("lifeline: %w", err)
}
