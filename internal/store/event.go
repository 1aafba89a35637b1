package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Event is a stored event with its place in the order of arrival.
type Event struct {
	ID    uint64 `json:"id"`
	Agent string `json:"agent"`
	event.Event
}

// EventFilter selects events; the zero value selects all.
type EventFilter struct {
	Agent     string
	Container string // full id
	Kind      event.Kind
	After     uint64
	Before    uint64
	Limit     int // at most MaxPage; 0 = 50
}

// Events lists what passes the filter, newest arrival first. Events are kept
// for a bounded time; see PruneEvents.
func (s *Store) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	w := &where{}
	w.text("agent", f.Agent)
	w.text("container", f.Container)
	w.text("kind", string(f.Kind))
	if f.After > 0 {
		w.add("id > %", int64(f.After))
	}
	if f.Before > 0 {
		w.add("id < %", int64(f.Before))
	}
	query := "SELECT id, agent, body FROM events" + w.String() + " ORDER BY id DESC LIMIT " + fmt.Sprint(limit(f.Limit))
	return list(ctx, s, "list events", func(row scanner) (Event, error) {
		var e Event
		var body []byte
		if err := row.Scan(&e.ID, &e.Agent, &body); err != nil {
			return e, err
		}
		return e, json.Unmarshal(body, &e.Event)
	}, query, w.args...)
}

// pruneStep is how many events go in one transaction, so that ingest never
// waits long for pruning.
const pruneStep = 5000

// PruneEvents deletes the events that arrived before the time, and the oldest
// beyond keep rows (0 = no bound), and returns how many went. Age is counted
// from arrival, by this server's clock. An event that is delivered again after
// it was pruned is stored again. Incidents are never pruned. Only the oldest
// arrivals are looked at, so that pruning costs the same at any size: after the
// clock went back, some events stay until those before them have gone.
func (s *Store) PruneEvents(ctx context.Context, before time.Time, keep int64) (int64, error) {
	var last int64
	if err := s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM events").Scan(&last); err != nil {
		return 0, s.wrap("prune events", err)
	}
	bound := int64(0)
	if keep > 0 {
		bound = last - keep
	}
	var total int64
	for {
		n, err := s.exec(ctx, "prune events", `
			DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT $3) AND (received < $1 OR id <= $2)`,
			nanos(before), bound, pruneStep)
		total += n
		if err != nil || n < pruneStep {
			return total, err
		}
	}
}

// PruneRejects keeps the newest records that could not be read, so that no
// agent can fill the disk with them.
func (s *Store) PruneRejects(ctx context.Context, keep int) (int64, error) {
	return s.exec(ctx, "prune rejects", "DELETE FROM rejects WHERE id <= (SELECT COALESCE(MAX(id), 0) FROM rejects) - $1", keep)
}
