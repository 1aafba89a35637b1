package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// maxBody bounds every request's body.
const maxBody = 4 << 20

type contextKey int

const (
	requestKey contextKey = iota
	whoKey
)

// requestID is the id that the server gave a request.
func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestKey).(string)
	return id
}

// around is what every request goes through, from the outside in: an id, safe
// headers, a bounded body, no panic, no request that another site's page made.
func (s *Server) around(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, http.StatusForbidden, "another site's page made this request: open the console itself")
	}))
	guarded := origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw := make([]byte, 8)
		_, _ = rand.Read(raw) // never fails, by crypto/rand's contract
		r = r.WithContext(context.WithValue(r.Context(), requestKey, hex.EncodeToString(raw)))
		h := w.Header()
		h.Set("X-Request-Id", requestID(r))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		limit := int64(maxBody)
		if r.URL.Path == scansPath {
			limit = store.MaxReport
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		defer s.survive(w, r)
		started := time.Now()
		counted := &statusWriter{ResponseWriter: w}
		guarded.ServeHTTP(counted, r)
		s.metrics.request(r, counted.status, time.Since(started))
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// survive turns a panic of one request into an error of that request.
func (s *Server) survive(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.o.Log.Error("request panicked", "path", r.URL.Path, "request", requestID(r), "panic", p)
	problem(w, r, http.StatusInternalServerError, "the server could not do this; its log has the request id")
}

// problemBody is RFC 9457's problem+json.
type problemBody struct {
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"` // the request id
}

func problem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problemBody{http.StatusText(status), status, detail, requestID(r)})
}

// openPaths is what the API answers to strangers.
var openPaths = [...]string{"/api/v1/healthz", "/api/v1/agents/enrol"}

// known lets only requests of somebody through, and only administrators' when
// they change something.
func (s *Server) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range openPaths {
			if r.URL.Path == p {
				stranger := caller{auth.Identity{Name: "stranger"}, auth.Address(r)}
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey, stranger)))
				return
			}
		}
		who, err := s.auth.Identify(r)
		switch {
		case errors.Is(err, auth.ErrAnonymous):
			w.Header().Set("WWW-Authenticate", `Bearer realm="breakwater"`)
			problem(w, r, http.StatusUnauthorized, "log in at /login, or send a token: Authorization: Bearer …")
		case err != nil:
			s.o.Log.Error("request not identified", "request", requestID(r), "error", err)
			problem(w, r, http.StatusServiceUnavailable, "the server could not check who is asking")
		case r.URL.Path == scansPath && who.MayScan():
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey, caller{who, auth.Address(r)})))
		case !who.MayRead():
			problem(w, r, http.StatusForbidden, who.Name+" may have scans judged, nothing else")
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !who.MayWrite():
			problem(w, r, http.StatusForbidden, who.Name+" may read, not change")
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey, caller{who, auth.Address(r)})))
		}
	})
}

// caller is who makes an API request, and from where.
type caller struct {
	auth.Identity
	address string
}

// actorOf is the caller for the audit log.
func actorOf(ctx context.Context) store.Actor {
	who, _ := ctx.Value(whoKey).(caller)
	id, _ := ctx.Value(requestKey).(string)
	return store.Actor{Name: who.Name, Address: who.address, Request: id}
}

// section is the first word of a path, for metrics: never a name or digest.
func section(path string) string {
	words := strings.Split(strings.TrimPrefix(path, "/api/v1"), "/")
	if len(words) < 2 {
		return "other"
	}
	switch words[1] {
	case "", "incidents", "images", "policies", "hosts", "events", "audit", "search", "login", "static", "agents", "healthz", "metrics", "where", "registries", "intelligence", "vex", "scans", "tokens":
		return "/" + words[1]
	}
	return "other"
}
