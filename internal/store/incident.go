package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Incident is a stored incident. Its ID is its place in the order of arrival,
// from 1, and its address in the console.
type Incident struct {
	ID       uint64    `json:"id"`
	Received time.Time `json:"received"`
	event.Incident
}

// MaxSearched is how many of the newest incidents a search for text reads: no
// index helps it, and a page must not wait for millions.
const MaxSearched = 100_000

// MaxPage is the most rows that one call returns.
const MaxPage = 500

// IncidentFilter selects incidents; the zero value selects all.
type IncidentFilter struct {
	Key       string
	Agent     string
	Host      string
	Container string // id, a beginning of at least 12 digits of it, or name
	Image     string // config digest
	Policy    string // the one that decided, or one of several that did together
	Detection string
	Severity  event.Severity // this one or worse
	Outcome   event.Outcome
	Control   event.Control
	Rises     bool   // only those that began a story or made it worse
	Text      string // a part of the sentence, in any case, among the newest MaxSearched
	Since     time.Time
	After     uint64 // only ids above
	Before    uint64 // only ids below; 0 = no bound
	Oldest    bool   // oldest first; else newest first
	Limit     int    // at most MaxPage; 0 = 50
}

// where collects conditions and their arguments.
type where struct {
	parts []string
	args  []any
}

// add appends a condition; each % in it stands for the argument.
func (w *where) add(condition string, arg any) {
	w.args = append(w.args, arg)
	w.parts = append(w.parts, strings.ReplaceAll(condition, "%", fmt.Sprintf("$%d", len(w.args))))
}

func (w *where) text(column, value string) {
	if value != "" {
		w.add(column+" = %", value)
	}
}

func (w *where) String() string {
	if len(w.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.parts, " AND ")
}

// likePattern matches a part, whatever it holds.
func likePattern(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(part)) + "%"
}

func (f IncidentFilter) where() *where {
	w := f.what(&where{})
	if f.After > 0 {
		w.add("id > %", int64(f.After))
	}
	if f.Before > 0 {
		w.add("id < %", int64(f.Before))
	}
	return w
}

// what adds the conditions but for the place in the list.
func (f IncidentFilter) what(w *where) *where {
	w.text("key", f.Key)
	w.text("agent", f.Agent)
	w.text("host", f.Host)
	w.text("image", f.Image)
	w.text("detection", f.Detection)
	w.text("outcome", string(f.Outcome))
	w.text("control", string(f.Control))
	if f.Rises {
		w.parts = append(w.parts, "rises = 1")
	}
	if f.Policy != "" {
		// Several policies that decided together stand in one field. Few such
		// fields differ; the index alone tells them.
		w.add(`policy IN (`+differentPolicies+` AND ', ' || one || ', ' LIKE % ESCAPE '\')`, likePattern(", "+f.Policy+", "))
	}
	if f.Container != "" {
		w.container(f.Container)
	}
	// The worst is asked for by an index, for it may be rare.
	if rank := f.Severity.Rank(); rank == event.SeverityCritical.Rank() {
		w.add("severity = %", rank)
	} else if rank > 0 {
		w.add("severity >= %", rank)
	}
	if f.Text != "" {
		w.add(`lower(sentence) LIKE % ESCAPE '\'`, likePattern(f.Text))
		w.add("id > (SELECT COALESCE(MAX(id), 0) FROM incidents) - %", MaxSearched)
	}
	return w
}

// since bounds a list by time. Ids rise as incidents arrive, so the first one
// bounds what is read; the sum keeps SQLite to the order of ids.
func (w *where) since(t time.Time) {
	if t.IsZero() {
		return
	}
	w.add("received + 0 >= %", nanos(t))
	w.add("id >= (SELECT MIN(id) FROM incidents WHERE received = (SELECT MIN(received) FROM incidents WHERE received >= %))", nanos(t))
}

// container selects by name, id, or the beginning of an id; each by its index.
func (w *where) container(c string) {
	ids := "SELECT id FROM incidents WHERE name = % UNION SELECT id FROM incidents WHERE container = %"
	if len(c) >= 12 {
		// What begins with c is not below c, and below c with a last character.
		w.args = append(w.args, c+"\U0010ffff")
		ids += fmt.Sprintf(" UNION SELECT id FROM incidents WHERE container >= %% AND container < $%d", len(w.args))
	}
	w.add("id IN ("+ids+")", c)
}

// differentPolicies reads each different value of incidents.policy by one step
// into its index.
const differentPolicies = `WITH RECURSIVE different(one) AS (
	SELECT MIN(policy) FROM incidents
	UNION ALL SELECT (SELECT MIN(policy) FROM incidents WHERE policy > one) FROM different WHERE one IS NOT NULL)
	SELECT one FROM different WHERE one IS NOT NULL`

func limit(n int) int {
	if n <= 0 {
		return 50
	}
	return min(n, MaxPage)
}

func scanIncident(row scanner) (Incident, error) {
	var i Incident
	var received int64
	var body []byte
	if err := row.Scan(&i.ID, &received, &body); err != nil {
		return i, err
	}
	i.Received = fromNanos(received)
	return i, json.Unmarshal(body, &i.Incident)
}

// Incidents lists what passes the filter, newest arrival first.
func (s *Store) Incidents(ctx context.Context, f IncidentFilter) ([]Incident, error) {
	w, order := f.where(), " ORDER BY id DESC LIMIT "
	w.since(f.Since)
	if f.Oldest {
		order = " ORDER BY id LIMIT "
	}
	query := "SELECT id, received, body FROM incidents" + w.String() + order + fmt.Sprint(limit(f.Limit))
	return list(ctx, s, "list incidents", scanIncident, query, w.args...)
}

// Incident returns one incident by its id, or ErrNotFound.
func (s *Store) Incident(ctx context.Context, id uint64) (Incident, error) {
	return one(ctx, s, fmt.Sprintf("incident %d", id), scanIncident, "SELECT id, received, body FROM incidents WHERE id = $1", int64(id))
}

// LastIncident is the id of the newest incident, 0 when there is none.
func (s *Store) LastIncident(ctx context.Context) (id uint64, err error) {
	err = s.wrap("last incident", s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM incidents").Scan(&id))
	return id, err
}

// OutcomeCount counts incidents of one outcome and severity.
type OutcomeCount struct {
	Outcome  event.Outcome
	Severity event.Severity
	Count    int
}

// CountIncidents counts what passes the filter by outcome and severity. That
// it groups by an expression keeps SQLite from reading the whole index of
// outcomes for its order, instead of the range of times in its own.
func (s *Store) CountIncidents(ctx context.Context, f IncidentFilter) ([]OutcomeCount, error) {
	w := f.where()
	if !f.Since.IsZero() {
		w.add("received >= %", nanos(f.Since))
	}
	scan := func(row scanner) (c OutcomeCount, err error) {
		var rank int
		err = row.Scan(&c.Outcome, &rank, &c.Count)
		c.Severity = severityOf(rank)
		return c, err
	}
	return list(ctx, s, "count incidents", scan, "SELECT outcome, severity, COUNT(*) FROM incidents"+w.String()+
		" GROUP BY COALESCE(outcome, ''), severity ORDER BY severity DESC, outcome", w.args...)
}

// severityOf is the inverse of Severity.Rank.
func severityOf(rank int) event.Severity {
	for _, s := range []event.Severity{event.SeverityNegligible, event.SeverityLow, event.SeverityMedium, event.SeverityHigh, event.SeverityCritical} {
		if s.Rank() == rank {
			return s
		}
	}
	return event.SeverityUnknown
}

// IncidentsPerHour counts arrivals in each of the last n hours, the oldest
// first; the last one is the hour that is running.
func (s *Store) IncidentsPerHour(ctx context.Context, n int) ([]int, error) {
	start := s.now().Truncate(time.Hour).Add(-time.Duration(n-1) * time.Hour)
	type bucket struct{ hour, count int }
	rows, err := list(ctx, s, "count incidents", func(row scanner) (b bucket, err error) {
		err = row.Scan(&b.hour, &b.count)
		return b, err
	}, `SELECT (received - $1) / 3600000000000 AS hour, COUNT(*) FROM incidents WHERE received >= $1 GROUP BY hour`, nanos(start))
	if err != nil {
		return nil, err
	}
	out := make([]int, n)
	for _, b := range rows {
		if b.hour >= 0 && b.hour < n {
			out[b.hour] = b.count
		}
	}
	return out, nil
}
