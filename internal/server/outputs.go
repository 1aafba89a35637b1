package server

import (
	"context"

	"github.com/breakwater-sec/breakwater/internal/notify"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// output is the incidents as one output reads them, with a durable position of
// its own.
type output struct {
	store *store.Store
	name  string
	rises bool // only incidents that begin a story or make it worse
}

// Output is the source of incidents for the output of that name. It begins
// with the oldest incident; see notify.Source. rises leaves out the incidents that
// neither begin a story nor make it worse.
func (s *Server) Output(name string, rises bool) notify.Source {
	return output{s.store, "output " + name, rises}
}

// Cursor is how far the output of that name has come: an incident's id.
func (s *Server) Cursor(ctx context.Context, name string) (uint64, error) {
	return s.store.Cursor(ctx, "output "+name)
}

func (o output) After(ctx context.Context, cursor uint64, limit int) ([]notify.Entry, error) {
	rows, err := o.store.Incidents(ctx, store.IncidentFilter{After: cursor, Oldest: true, Limit: limit, Rises: o.rises})
	if err != nil {
		return nil, err
	}
	entries := make([]notify.Entry, len(rows))
	for i, r := range rows {
		entries[i] = notify.Entry{Cursor: r.ID, Incident: r.Incident}
	}
	return entries, nil
}

func (o output) SaveCursor(ctx context.Context, cursor uint64) error {
	return o.store.SaveCursor(ctx, o.name, cursor)
}
