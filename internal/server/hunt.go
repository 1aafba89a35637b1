package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

const (
	huntPath      = "/api/v1/hunt"
	maxHunts      = 8
	maxDetections = 256 << 10
)

// hunted is one line of an answer: an event that an agent found, or how the answer
// of an agent ended.
type hunted struct {
	Agent string `json:"agent"`
	Host  string `json:"host"`
	*api.Found
	Seen  *api.Seen `json:"seen,omitempty"`
	Error string    `json:"error,omitempty"`
}

// huntQuery reads what is asked for from a URL, and from the body a document of
// detections.
func (s *Server) huntQuery(r *http.Request) (q api.Question, err error) {
	in := r.URL.Query()
	q = api.Question{Kind: api.AskEvents, Where: in.Get("where"), Follow: in.Get("follow") == "true"}
	if q.Since, err = web.Since(in.Get("since"), s.o.Now()); err != nil {
		return q, err
	}
	if text := in.Get("limit"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return q, fmt.Errorf("limit %q: want a number", text)
		}
		q.Limit = int(n)
	}
	if r.Method == http.MethodPost {
		if q.Detections, err = io.ReadAll(io.LimitReader(r.Body, maxDetections+1)); err != nil {
			return q, err
		}
		if n := len(q.Detections); n == 0 || n > maxDetections {
			return q, fmt.Errorf("the body holds %d bytes or more, want a document of detections of 1 to %d", n, maxDetections)
		}
		_, err = detect.LoadText("detections", q.Detections)
		return q, err
	}
	_, err = detect.ParseWhere(q.Where)
	return q, err
}

// hunt asks every agent, or one, for events that they keep, and sends what they
// answer as lines of JSON while it comes.
func (s *Server) hunt(w http.ResponseWriter, r *http.Request) {
	q, err := s.huntQuery(r)
	if err != nil {
		problem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	agents, err := s.hunters(r.Context(), r.URL.Query().Get("agent"))
	switch {
	case errors.Is(err, store.ErrNotFound):
		problem(w, r, http.StatusNotFound, err.Error())
		return
	case err != nil:
		s.o.Log.Error("hunt failed", "request", requestID(r), "error", err)
		problem(w, r, http.StatusInternalServerError, "the server could not do this; its log says why")
		return
	}
	select {
	case s.hunts <- struct{}{}:
		defer func() { <-s.hunts }()
	default:
		problem(w, r, http.StatusServiceUnavailable, fmt.Sprintf("%d searches through events run already: wait until one ends", maxHunts))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	to := &sender{w: w, control: http.NewResponseController(w)}
	to.err = to.control.SetReadDeadline(time.Time{})
	var mu sync.Mutex // of to
	say := func(lines ...hunted) error {
		mu.Lock()
		defer mu.Unlock()
		var text []byte
		for _, l := range lines {
			raw, err := json.Marshal(l)
			if err != nil {
				return err
			}
			text = append(append(text, raw...), '\n')
		}
		if len(text) == 0 { // an agent's sign of life is ours
			text = []byte("\n")
		}
		to.printf("%s", text)
		return to.err
	}
	var asking sync.WaitGroup
	for _, a := range agents {
		asking.Go(func() {
			if s.ask(ctx, a, q, say) != nil {
				cancel() // whoever asked is gone
			}
		})
	}
	stop := context.AfterFunc(s.ending, cancel)
	defer stop()
	asking.Wait()
}

// ask gives one agent's answer to say, whose error it returns.
func (s *Server) ask(ctx context.Context, a store.Agent, q api.Question, say func(...hunted) error) (gone error) {
	end := hunted{Agent: a.ID, Host: a.Host, Seen: &api.Seen{}}
	err := s.bus.Ask(ctx, a.ID, q, func(p api.AnswerPart) error {
		var lines []hunted
		for _, f := range p.Found {
			lines = append(lines, hunted{Agent: a.ID, Host: a.Host, Found: &f})
		}
		if p.Seen.Events > 0 || p.Seen.Damaged > 0 {
			end.Seen = &p.Seen
		}
		gone = say(lines...)
		return gone
	})
	if gone != nil {
		return gone
	}
	if err != nil {
		end.Error = err.Error()
	}
	return say(end)
}

// hunters are the agents that are asked: one, or all that are trusted.
func (s *Server) hunters(ctx context.Context, one string) ([]store.Agent, error) {
	if one != "" {
		a, err := s.store.Agent(ctx, one)
		return []store.Agent{a}, err
	}
	all, err := s.store.Agents(ctx)
	return slices.DeleteFunc(all, func(a store.Agent) bool { return !a.Revoked.IsZero() }), err
}

func (s *Server) describeHunt(a huma.API) {
	text := func(name, doc string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: "string"}}
	}
	parameters := []*huma.Param{text("where", "a condition in CEL, in the words of detections; empty: all events"), text("since", "how far back: 90m, 24h, 7d; empty: all that is kept"),
		text("agent", "only this one"), text("limit", "at most so many events of each agent"), text("follow", "true: go on with what is seen from now on")}
	lines := map[string]*huma.Response{"200": {Description: "lines of JSON: events as they are found, and a last line for each agent with what its answer rests on", Content: map[string]*huma.MediaType{"application/x-ndjson": {}}}}
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "hunt", Method: http.MethodGet, Path: huntPath, Summary: "Events that agents keep, for which a condition holds", Parameters: parameters, Responses: lines})
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "replay-detections", Method: http.MethodPost, Path: huntPath, Summary: "Events that agents keep, on which detections fire that are not enabled",
		Parameters: parameters[1:], RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/yaml": {}}}, Responses: lines})
}
