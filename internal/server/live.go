package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// The bounds of live streams.
const (
	maxStreams  = 200
	streamBeat  = 15 * time.Second // a comment, so that dead connections are found
	streamWrite = 10 * time.Second
	streamPage  = 100
)

var errStreams = errors.New("too many live streams are open: close some pages")

// live wakes those who wait for new incidents. It carries no data: each stream
// reads from the store what came after what it has, so none can lose any or
// hold up the others.
type live struct {
	mu      sync.Mutex // guards what follows
	closed  bool
	waiting map[chan struct{}]bool
}

func newLive() *live { return &live{waiting: map[chan struct{}]bool{}} }

// join returns a channel that gets a value after news, and is closed at the end.
func (l *live) join() (chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting) >= maxStreams {
		return nil, errStreams
	}
	c := make(chan struct{}, 1)
	l.waiting[c] = true
	return c, nil
}

func (l *live) leave(c chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, c)
}

func (l *live) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.waiting {
		select {
		case c <- struct{}{}:
		default: // it is awake already
		}
	}
}

func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.waiting {
		close(c)
		delete(l.waiting, c)
	}
}

// brief is an incident as streams carry it.
type brief struct {
	ID       uint64         `json:"id"`
	Time     time.Time      `json:"time"`
	Severity event.Severity `json:"severity"`
	Outcome  event.Outcome  `json:"outcome"`
	Sentence string         `json:"sentence"`
	Host     string         `json:"host"`
}

// stream sends incidents that pass the query's filter as server-sent events,
// from "after" (or the Last-Event-ID of a reader that comes back) on.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	f, err := web.IncidentFilter(r.URL.Query(), s.o.Now())
	if err != nil {
		problem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	if last, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 63); err == nil {
		f.After = last
	}
	news, err := s.live.join()
	if err != nil {
		problem(w, r, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer s.live.leave(news)
	f.Oldest, f.Limit = true, streamPage
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	sender := &sender{w: w, control: http.NewResponseController(w)}
	// A stream outlives the time that a request's body may take.
	sender.err = sender.control.SetReadDeadline(time.Time{})
	sender.printf(": live\n\n")
	s.follow(r, f, sender, news)
}

// follow sends what there is, then waits, until the reader or the server ends.
func (s *Server) follow(r *http.Request, f store.IncidentFilter, to *sender, news <-chan struct{}) {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		page, err := s.store.Incidents(r.Context(), f)
		if err != nil {
			return // the reader comes back with what it has
		}
		for _, i := range page {
			f.After = i.ID
			to.incident(i)
		}
		if to.err != nil {
			return
		}
		if len(page) == streamPage {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case _, open := <-news:
			if !open {
				return
			}
		case <-beat.C:
			// Whoever was logged out meanwhile hears nothing more.
			if _, err := s.auth.Identify(r); err != nil {
				return
			}
			to.printf(": beat\n\n")
		}
	}
}

// sender writes a stream; the first error ends it.
type sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

func (s *sender) incident(i store.Incident) {
	body, err := json.Marshal(brief{i.ID, i.Time, i.Severity, i.Decision.Outcome, i.Sentence, i.Host})
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.printf("id: %d\nevent: incident\ndata: %s\n\n", i.ID, body)
}

func (s *sender) printf(format string, args ...any) {
	if s.err != nil {
		return
	}
	s.err = s.control.SetWriteDeadline(time.Now().Add(streamWrite))
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.w, format, args...)
	}
	if s.err == nil {
		s.err = s.control.Flush()
	}
	if s.err == nil {
		// HTTP/2 ends a stream at its deadline also when nothing is being written.
		s.err = s.control.SetWriteDeadline(time.Time{})
	}
}
