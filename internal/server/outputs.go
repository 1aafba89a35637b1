package server

import (
	"context"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/notify"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// Forward sends every incident to a receiver, at least once and in order,
// until ctx ends. The name keeps the place in the stream of incidents across
// restarts; a new name begins with the first incident there is.
func (s *Server) Forward(ctx context.Context, name string, t notify.Transport) error {
	source := outgoing{store: s.store, name: "output/" + name}
	cursor, err := s.store.Cursor(ctx, source.name)
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	wake, err := s.live.join()
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	defer s.live.leave(wake)
	f := notify.New(source, t, notify.Options{Cursor: cursor, Wake: untilClosed(ctx, wake)})
	if err := f.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	return nil
}

// untilClosed passes wake-ups on and leaves the channel silent, not closed,
// when the stream's end closes the one it reads: a closed channel would wake
// without end.
func untilClosed(ctx context.Context, in <-chan struct{}) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case _, open := <-in:
				if !open {
					return
				}
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out
}

// outgoing is the store as an output reads it.
type outgoing struct {
	store *store.Store
	name  string
}

// After implements notify.Source.
func (o outgoing) After(ctx context.Context, cursor uint64, limit int) ([]notify.Entry, error) {
	list, err := o.store.Incidents(ctx, store.IncidentFilter{After: cursor, Oldest: true, Limit: limit})
	if err != nil {
		return nil, err
	}
	entries := make([]notify.Entry, len(list))
	for i, inc := range list {
		entries[i] = notify.Entry{Cursor: inc.ID, Incident: inc.Incident}
	}
	return entries, nil
}

// SaveCursor implements notify.Source.
func (o outgoing) SaveCursor(ctx context.Context, cursor uint64) error {
	return o.store.SaveCursor(ctx, o.name, cursor)
}
