package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Exception is one that an administrator made from an incident.
type Exception struct {
	api.Exception
	Incident uint64    `json:"incident"` // that it was made from
	Reason   string    `json:"reason"`
	Author   string    `json:"author"`
	Created  time.Time `json:"created"`
	// Count, Last and Outcome are what it passed over, on all hosts, as agents
	// told last.
	Count   uint64        `json:"count"`
	Last    time.Time     `json:"last,omitzero"`
	Outcome event.Outcome `json:"outcome,omitempty"` // of the last one
}

// Exceptions lists all, those that have ended too, the newest first.
func (s *Store) Exceptions(ctx context.Context) ([]Exception, error) {
	all, err := list(ctx, s, "exceptions", func(row scanner) (x Exception, err error) {
		var body []byte
		var id, ends, created int64
		if err = row.Scan(&id, &body, &x.Incident, &x.Reason, &ends, &x.Author, &created); err != nil {
			return x, err
		}
		err = json.Unmarshal(body, &x.Exception)
		x.ID, x.Ends, x.Created = id, fromNanos(ends), fromNanos(created)
		return x, err
	}, "SELECT id, body, incident, reason, ends, author, created FROM exceptions ORDER BY id DESC")
	if err != nil || len(all) == 0 {
		return all, err
	}
	agents, err := s.Agents(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range agents {
		if a.Status == nil {
			continue
		}
		for _, c := range a.Status.Excepted {
			for i := range all {
				if x := &all[i]; x.ID == c.ID {
					x.Count += c.Count
					if c.Last.After(x.Last) {
						x.Last, x.Outcome = c.Last, c.Outcome
					}
				}
			}
		}
	}
	return all, nil
}

// Except keeps an exception and starts a generation.
func (s *Store) Except(ctx context.Context, x Exception, by Actor) (id int64, err error) {
	body, err := json.Marshal(x.Exception)
	if err != nil {
		return 0, err
	}
	what := describeException(x.Exception)
	err = s.tx(ctx, "except", func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO exceptions (body, detection, incident, reason, ends, author, created) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			body, x.Detection, int64(x.Incident), x.Reason, nanos(x.Ends), by.Name, nanos(s.now())).Scan(&id)
		if err != nil {
			return err
		}
		if err := s.audit(ctx, tx, by, "incident.except", fmt.Sprint(x.Incident), what+": "+x.Reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "excepted: "+what)
	})
	return id, err
}

// Unexcept takes an exception back, and starts a generation; ErrNotFound when there
// is none.
func (s *Store) Unexcept(ctx context.Context, id int64, reason string, by Actor) error {
	return s.tx(ctx, "take an exception back", func(tx *sql.Tx) error {
		var body []byte
		var incident int64
		if err := tx.QueryRowContext(ctx, "DELETE FROM exceptions WHERE id = $1 RETURNING body, incident", id).Scan(&body, &incident); err != nil {
			return err // no row is ErrNotFound
		}
		var x api.Exception
		if err := json.Unmarshal(body, &x); err != nil {
			return err
		}
		what := describeException(x)
		if err := s.audit(ctx, tx, by, "incident.unexcept", fmt.Sprint(incident), what+": "+reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "no longer excepted: "+what)
	})
}

func describeException(x api.Exception) string {
	where := "image " + x.Image
	if x.Container != "" {
		where = "container " + x.Container
	}
	return fmt.Sprintf("%s of %s by %s on %s", x.Detection, where, x.Program, x.Target)
}

// RuleCount is how often a detection, or a control of policy, told of something.
type RuleCount struct {
	Detection string // "" for a control of policy
	Control   event.Control
	Count     int
	Last      time.Time // by this server's clock
}

// countRule counts an incident for what told of it.
func (in *ingest) countRule(ctx context.Context, detection string, control event.Control) error {
	_, err := in.tx.ExecContext(ctx, `INSERT INTO rule_hours (hour, detection, control, count, last) VALUES ($1 / 3600000000000, $2, $3, 1, $1)
		ON CONFLICT (hour, detection, control) DO UPDATE SET count = count + 1, last = max(last, excluded.last)`, in.now, detection, control)
	return err
}

// CountRules counts incidents by what told of them since the hour of a time.
func (s *Store) CountRules(ctx context.Context, since time.Time) ([]RuleCount, error) {
	return list(ctx, s, "count by detection", func(row scanner) (c RuleCount, err error) {
		var last int64
		err = row.Scan(&c.Detection, &c.Control, &c.Count, &last)
		c.Last = fromNanos(last)
		return c, err
	}, "SELECT detection, control, SUM(count), MAX(last) FROM rule_hours WHERE hour >= $1 / 3600000000000 GROUP BY detection, control", nanos(since))
}
