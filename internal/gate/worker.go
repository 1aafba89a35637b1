package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The paths between engine, supervisor and worker. Those of the engine are
// Docker's plugin protocol (v1.1).
const (
	pathActivate = "/Plugin.Activate"
	pathRequest  = "/AuthZPlugin.AuthZReq"
	pathResponse = "/AuthZPlugin.AuthZRes"
	pathStatus   = "/Breakwater.Status"
	pathNote     = "/Breakwater.Note" // worker only

	pluginContent = "application/vnd.docker.plugins.v1.1+json"
	maxRequest    = 4 << 20 // bytes; a body of 1 MiB in base64, and headers
)

// WorkerSocket is where the worker of a gate listens for its supervisor.
func WorkerSocket(data string) string { return filepath.Join(data, "gate", "worker.sock") }

// Status is what a gate says about itself.
type Status struct {
	Engine     string   `json:"engine"`
	Data       string   `json:"data"` // the data folder whose policies it judges by
	OnFailure  Failure  `json:"onFailure"`
	Allow      []string `json:"allow,omitempty"`
	Supervisor int      `json:"supervisor"` // process ids
	Worker     int      `json:"worker"`     // 0 when it is dead
	// Generation of the policy in force; Problem is why there is none, or why
	// the newest is not in force.
	Generation uint64 `json:"generation"`
	Problem    string `json:"problem,omitempty"`
	Allowed    uint64 `json:"allowed"` // judged calls since the worker started
	Refused    uint64 `json:"refused"`
	Failed     uint64 `json:"failed"` // could not be judged
	// Asked counts every call that the engine asked about; Probe is the last
	// value that a call carried as breakwater-probe.
	Asked   uint64 `json:"asked"`
	Probe   string `json:"probe,omitempty"`
	Waiting uint64 `json:"waiting"` // notes that the agent has not taken
	Dropped uint64 `json:"dropped"` // notes dropped because too many waited
}

// Steady tunes a process that is half a gate, and nothing else: it lives on a
// few MiB, and a collector that ran as often as Go's standard makes it would
// delay every hundredth call by milliseconds. Its heap stays below 16 MiB or
// five times what is in use, and near 128 MiB the collector works as usual.
func Steady() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(128 << 20)
}

// Work is the worker: it judges what the supervisor passes on, until ctx ends.
//
// Options.Log must be set.
func Work(ctx context.Context, o Options) error {
	agent := newAgentLink(o.Data)
	socket := WorkerSocket(o.Data)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("the gate's folder: %w", err)
	}
	n, err := openNotes(o.Data, agent, o.Log)
	if err != nil {
		return err
	}
	// The lock of the notes is held, so that whoever listened here is dead.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, n.close())
	}
	l, err := listenUnix(ctx, socket)
	if err != nil {
		return errors.Join(err, n.close())
	}
	j := newJudge(o, n, agent)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.deliver(ctx) })
	group.Go(func() error { return j.engine.follow(ctx) })
	group.Go(func() error { return j.engine.describeAnew(ctx) })
	group.Go(func() error { return serve(ctx, l, j.handler()) })
	return errors.Join(group.Wait(), n.close())
}

// listenUnix listens on a socket that only this user can connect to.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve answers until ctx ends, then lets calls in flight end.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}

func (j *judge) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathRequest, func(w http.ResponseWriter, r *http.Request) {
		var q request
		if err := readJSON(r.Body, &q); err != nil {
			writeJSON(w, answer{Msg: "the gate does not understand the engine: " + err.Error()})
			return
		}
		writeJSON(w, j.decide(r.Context(), q))
	})
	mux.HandleFunc("POST "+pathNote, func(w http.ResponseWriter, r *http.Request) {
		var e event.Event
		err := readJSON(r.Body, &e)
		if err == nil {
			err = j.notes.add(r.Context(), e)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST "+pathStatus, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, j.status()) })
	return mux
}

func (j *judge) status() Status {
	s := Status{
		Engine: j.options.Engine, Data: j.options.Data, OnFailure: j.options.OnFailure, Allow: j.options.Allow, Worker: os.Getpid(),
		Allowed: j.allowed.Load(), Refused: j.refused.Load(), Failed: j.failed.Load(),
	}
	if err := j.rules.trouble(); err != nil {
		s.Problem = err.Error()
	}
	if r, err := j.rules.current(); err == nil {
		s.Generation = r.set.Generation()
	}
	s.Waiting, s.Dropped = j.notes.waiting()
	return s
}

func readJSON(from io.Reader, to any) error {
	data, err := io.ReadAll(io.LimitReader(from, maxRequest+1))
	if err != nil {
		return err
	}
	if len(data) > maxRequest {
		return fmt.Errorf("more than %d bytes", maxRequest)
	}
	return json.Unmarshal(data, to)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", pluginContent)
	_ = json.NewEncoder(w).Encode(v) // the asker is gone: nobody is left to tell
}

// Ask asks the gate behind a plugin socket how it is.
func Ask(ctx context.Context, socket string, s *Status) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gate"+pathStatus, nil)
	if err != nil {
		return err
	}
	r, err := client.Do(q)
	if err != nil {
		return fmt.Errorf("gate at %s: %w", socket, err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("what answers at %s is no gate of Breakwater: %s", socket, r.Status)
	}
	return readJSON(r.Body, s)
}
