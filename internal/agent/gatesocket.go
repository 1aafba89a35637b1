package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// maxGateBody bounds what the gate may send in one request.
const maxGateBody = 1 << 20

// gateDesk is what the gate may ask of the agent.
type gateDesk struct {
	scan  func(ctx context.Context, req api.ScanRequest) (*report.Report, error)
	note  func(ctx context.Context, ev event.Event) error
	start func(ctx context.Context, note api.StartNote) error
	gate  func(note api.GateNote)
}

// serveGate answers the gate on a unix socket that only root may open, until
// ctx ends.
func serveGate(ctx context.Context, dir string, desk gateDesk) error {
	path := filepath.Join(dir, api.SocketAgent)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("gate socket: %w", err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("gate socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("gate socket: %w", err), listener.Close())
	}
	srv := &http.Server{
		Handler:           desk.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("gate socket: %w", err)
	}
	return nil
}

func (d gateDesk) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/scan", handle(func(ctx context.Context, req api.ScanRequest) (any, error) {
		return d.scan(ctx, req)
	}))
	mux.HandleFunc("POST /v1/note", handle(func(ctx context.Context, ev event.Event) (any, error) {
		return struct{}{}, d.note(ctx, ev)
	}))
	mux.HandleFunc("POST /v1/start", handle(func(ctx context.Context, note api.StartNote) (any, error) {
		return struct{}{}, d.start(ctx, note)
	}))
	mux.HandleFunc("POST /v1/gate", handle(func(_ context.Context, note api.GateNote) (any, error) {
		d.gate(note)
		return struct{}{}, nil
	}))
	return mux
}

// handle decodes a bounded JSON request, calls fn and encodes its answer.
func handle[Req any](fn func(context.Context, Req) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxGateBody)).Decode(&req); err != nil {
			http.Error(w, "request: "+err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := fn(r.Context(), req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the gate went away: nobody to tell
	}
}
