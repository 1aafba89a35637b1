package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/vex"
)

// The bounds of VEX documents: all of them go to every agent with its policies.
const (
	maxVEX       = 100
	maxVEXBytes  = 1 << 20 // of one
	maxVEXTotal  = 2 << 20
	maxVEXReason = 500
)

// badVEX is a document that cannot be taken as it is.
type badVEX struct{ error }

func wrongVEX(format string, args ...any) error { return badVEX{fmt.Errorf(format, args...)} }

var vexNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`) })

// statementsCache holds what the documents in force say. Safe for concurrent use.
type statementsCache struct {
	mu      sync.Mutex
	version string
	said    *report.Statements
}

// statements are what the VEX documents in force say.
func (s *Server) statements(ctx context.Context) (*report.Statements, error) {
	c := &s.said
	c.mu.Lock()
	defer c.mu.Unlock()
	version, err := s.store.VEXVersion(ctx)
	if err != nil || version == c.version {
		return c.said, err
	}
	documents, err := s.store.VEX(ctx)
	if err != nil {
		return nil, err
	}
	said, err := report.ReadStatements(documents)
	if err != nil { // an older program took them
		s.o.Log.Error("a VEX document cannot be read any more: it says nothing until it is added anew", "error", err)
	}
	c.version, c.said = version, said
	return said, nil
}

// AddVEX implements web.Statements.
func (s *Server) AddVEX(ctx context.Context, name, reason string, text []byte, by store.Actor) (notes []string, err error) {
	reason = strings.TrimSpace(reason)
	switch {
	case !vexNames().MatchString(name):
		return nil, wrongVEX("%q cannot be the name of a VEX document: use at most 100 letters, digits, dots, dashes and underscores", name)
	case reason == "" || len(reason) > maxVEXReason:
		return nil, wrongVEX("give a reason, of at most %d bytes", maxVEXReason)
	case len(text) > maxVEXBytes:
		return nil, wrongVEX("the document has %d bytes, more than %d: leave out what is about other products", len(text), maxVEXBytes)
	}
	var set vex.Set
	if notes, err = set.Add(name, text); err != nil {
		return nil, badVEX{err}
	}
	if set.Len() == 0 {
		return nil, wrongVEX("VEX document %s: it has no statement that can be used: %s", name, strings.Join(notes, "; "))
	}
	have, err := s.store.VEXDocuments(ctx)
	if err != nil {
		return nil, err
	}
	count, total := 1, len(text)
	for _, d := range have {
		if d.Name != name {
			count, total = count+1, total+int(d.Bytes)
		}
	}
	if count > maxVEX || total > maxVEXTotal {
		return nil, wrongVEX("%d VEX documents of %d bytes together are more than %d of %d: remove some", count, total, maxVEX, maxVEXTotal)
	}
	if err := s.store.PutVEX(ctx, store.VEXDocument{Name: name, Statements: set.Len(), Reason: reason}, text, by); err != nil {
		return nil, err
	}
	s.policiesChanged(ctx)
	return notes, nil
}

// RemoveVEX implements web.Statements.
func (s *Server) RemoveVEX(ctx context.Context, name, reason string, by store.Actor) error {
	if reason = strings.TrimSpace(reason); len(reason) > maxVEXReason {
		return wrongVEX("the reason has %d bytes: use at most %d", len(reason), maxVEXReason)
	}
	if err := s.store.DeleteVEX(ctx, name, reason, by); err != nil {
		return err
	}
	s.policiesChanged(ctx)
	return nil
}

func (s *Server) apiVEX(ctx context.Context, _ *struct{}) (*answer[rows[store.VEXDocument]], error) {
	return reply(s.store.VEXDocuments(ctx))
}

type vexAnswer struct {
	Items []store.VEXDocument `json:"items"`
	Notes []string            `json:"notes,omitempty" doc:"which statements cannot be used, and why"`
}

// apiAddVEX takes a document as the body.
func (s *Server) apiAddVEX(ctx context.Context, in *struct {
	Name    string `path:"name"`
	Reason  string `query:"reason" required:"true"`
	RawBody []byte `contentType:"application/json"`
}) (*answer[vexAnswer], error) {
	notes, err := s.AddVEX(ctx, in.Name, in.Reason, in.RawBody, actorOf(ctx))
	if err != nil {
		return nil, vexError(err)
	}
	all, err := s.store.VEXDocuments(ctx)
	return single(vexAnswer{all, notes}, err)
}

func (s *Server) apiRemoveVEX(ctx context.Context, in *struct {
	Name   string `path:"name"`
	Reason string `query:"reason"`
}) (*struct{}, error) {
	if err := s.RemoveVEX(ctx, in.Name, in.Reason, actorOf(ctx)); err != nil {
		return nil, vexError(err)
	}
	return nil, nil
}

func vexError(err error) error {
	var bad badVEX
	if errors.As(err, &bad) {
		return huma.Error400BadRequest(err.Error())
	}
	return apiError(err)
}
