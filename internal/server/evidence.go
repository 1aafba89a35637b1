package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// evidence hands through what an incident's agent keeps of its story. It may hold
// secrets of the container, so it is for administrators, and each time is audited.
func (s *Server) evidence(w http.ResponseWriter, r *http.Request) {
	who, _ := r.Context().Value(whoKey).(caller)
	if !who.MayWrite() {
		problem(w, r, http.StatusForbidden, who.Name+" may read, but not evidence: it may hold secrets of containers")
		return
	}
	s.sendEvidence(w, r, actorOf(r.Context()))
}

// consoleEvidence is the same by a session of the console.
func (s *Server) consoleEvidence(w http.ResponseWriter, r *http.Request) {
	who, err := s.auth.Identify(r)
	if err != nil || !who.MayWrite() {
		problem(w, r, http.StatusForbidden, "evidence is for administrators: log in as one")
		return
	}
	s.sendEvidence(w, r, store.Actor{Name: who.Name, Address: auth.Address(r), Request: requestID(r)})
}

func (s *Server) sendEvidence(w http.ResponseWriter, r *http.Request, by store.Actor) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 63)
	if err != nil {
		problem(w, r, http.StatusNotFound, fmt.Sprintf("incident %q: an incident has a number", r.PathValue("id")))
		return
	}
	inc, err := s.store.Incident(r.Context(), id)
	if err == nil {
		err = s.store.Audit(r.Context(), by, "incident.evidence", fmt.Sprint(id), inc.Agent)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		problem(w, r, http.StatusNotFound, err.Error())
		return
	case err != nil:
		s.o.Log.Error("evidence not sent", "request", requestID(r), "error", err)
		problem(w, r, http.StatusInternalServerError, "the server could not do this; its log says why")
		return
	}
	key := inc.Key
	if inc.Story != nil {
		key = cmp.Or(inc.Story.Key, key)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(s.ending, cancel)
	defer stop()
	begun := false
	control := http.NewResponseController(w)
	err = s.bus.Ask(ctx, inc.Agent, api.Question{Kind: api.AskEvidence, Story: key}, func(p api.AnswerPart) error {
		if len(p.Data) == 0 {
			return nil
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-tar")
			w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=\"evidence-%d.tar\"", id))
			w.Header().Set("Cache-Control", "no-store")
		}
		err := control.SetWriteDeadline(time.Now().Add(streamWrite))
		if err == nil {
			_, err = w.Write(p.Data)
		}
		return err
	})
	switch {
	case err == nil && begun:
	case begun: // half a bundle must not look like a whole one
		s.o.Log.Error("evidence not sent whole", "request", requestID(r), "error", err)
		panic(http.ErrAbortHandler)
	case err == nil:
		problem(w, r, http.StatusNotFound, "its agent sent nothing")
	default:
		problem(w, r, http.StatusNotFound, err.Error())
	}
}
