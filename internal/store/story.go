package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Story is what incidents of one process tree are together. An incident that
// belongs to none with others is a story of its own. Its ID is that of its first
// incident.
type Story struct {
	ID uint64 `json:"id"`
	event.Story
	// Newest is the newest of its incidents that was asked for.
	Newest Incident `json:"newest"`
}

// story returns the number of the story that an incident belongs to, 0 when it
// begins one, and whether the incident begins it or makes it worse.
func (in *ingest) story(ctx context.Context, s *event.Story) (id uint64, rises bool, err error) {
	if s == nil || s.Key == "" || len(s.Key) > MaxKey {
		return 0, true, nil
	}
	severity := 0
	err = in.tx.QueryRowContext(ctx, "SELECT id, severity FROM stories WHERE key = $1 AND agent = $2", s.Key, in.agent).Scan(&id, &severity)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, true, nil
	}
	return id, s.Severity.Rank() > severity, err
}

// tell keeps what an incident says of its story, when that is the newest word.
func (in *ingest) tell(ctx context.Context, incident, story uint64, s *event.Story) error {
	if story == 0 {
		story = incident
		if _, err := in.tx.ExecContext(ctx, "UPDATE incidents SET story = id WHERE id = $1", incident); err != nil {
			return err
		}
	}
	if s == nil || s.Key == "" || len(s.Key) > MaxKey {
		return nil
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = in.tx.ExecContext(ctx, `
		INSERT INTO stories (id, agent, key, revision, severity, body) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (key, agent) DO UPDATE SET revision = excluded.revision, severity = excluded.severity, body = excluded.body
		WHERE excluded.revision > stories.revision`, story, in.agent, s.Key, int64(s.Revision), s.Severity.Rank(), body)
	return err
}

// Stories lists those that have an incident which passes the filter, the one with
// the newest such incident first. A severity counts when the story as a whole has
// it too. After and Oldest mean nothing here; Before and Limit are of Newest.
func (s *Store) Stories(ctx context.Context, f IncidentFilter) ([]Story, error) {
	w := &where{}
	all := f.ofStory(w, false)
	newer := f.ofStory(w, true)
	place := ""
	if f.Before > 0 {
		place = fmt.Sprintf(" AND id < %d", f.Before)
	}
	// The inner names of columns are those of the inner incidents.
	query := fmt.Sprintf(`
		SELECT found.story, found.id, found.received, found.body, COALESCE(stories.body, '') FROM (
			SELECT id, story, received, body FROM incidents AS this WHERE %[1]s%[3]s
			AND NOT EXISTS (SELECT 1 FROM incidents WHERE story = this.story AND id > this.id AND %[2]s)
			ORDER BY id DESC LIMIT %[4]d
		) AS found LEFT JOIN stories ON stories.id = found.story ORDER BY found.id DESC`, all, newer, place, limit(f.Limit))
	return list(ctx, s, "list stories", scanStory, query, w.args...)
}

// ofStory adds the arguments of the filter to w, and gives its conditions on an
// incident; within the few of one story no index is asked.
func (f IncidentFilter) ofStory(w *where, within bool) string {
	severity, container := f.Severity, f.Container
	f.Severity = ""
	if within {
		f.Container = ""
	}
	mine := f.what(&where{args: w.args})
	mine.since(f.Since)
	if within && container != "" {
		mine.add("(name = % OR container = % OR substr(container, 1, max(12, length(%))) = %)", container)
	}
	// The worst is asked for by an index, for it may be rare.
	if rank := severity.Rank(); rank == event.SeverityCritical.Rank() && !within {
		mine.add("story IN (SELECT story FROM incidents WHERE severity = % UNION SELECT id FROM stories WHERE severity = %)", rank)
	} else if rank > 0 {
		mine.add("(severity >= % OR story IN (SELECT id FROM stories WHERE severity >= %))", rank)
	}
	w.args = mine.args
	return strings.Join(append([]string{"1 = 1"}, mine.parts...), " AND ")
}

func scanStory(row scanner) (Story, error) {
	var s Story
	var received int64
	var body, told []byte
	if err := row.Scan(&s.ID, &s.Newest.ID, &received, &body, &told); err != nil {
		return s, err
	}
	s.Newest.Received = fromNanos(received)
	if err := json.Unmarshal(body, &s.Newest.Incident); err != nil {
		return s, err
	}
	if len(told) > 0 {
		return s, json.Unmarshal(told, &s.Story)
	}
	s.Story = alone(s.Newest.Incident)
	return s, nil
}

// alone is the story of an incident that belongs to no other.
func alone(i event.Incident) event.Story {
	s := event.Story{Key: i.Key, Step: 1, Steps: 1, Severity: i.Severity, Sentence: i.Sentence, Started: i.Time}
	if i.Decision.Outcome == event.Prevented || i.Decision.Outcome == event.Killed {
		s.Stopped = 1
	}
	return s
}

// Story returns the story that an incident belongs to with its incidents, the
// oldest first, or ErrNotFound.
func (s *Store) Story(ctx context.Context, incident uint64) (Story, []Incident, error) {
	found, err := one(ctx, s, fmt.Sprintf("incident %d", incident), scanStory, `
		SELECT incidents.story, incidents.id, incidents.received, incidents.body, COALESCE(stories.body, '')
		FROM incidents LEFT JOIN stories ON stories.id = incidents.story WHERE incidents.id = $1`, int64(incident))
	if err != nil {
		return found, nil, err
	}
	steps, err := list(ctx, s, "steps of a story", scanIncident, "SELECT id, received, body FROM incidents WHERE story = $1 ORDER BY id LIMIT $2", int64(found.ID), MaxPage)
	if n := len(steps); n > 0 {
		found.Newest = steps[n-1]
	}
	return found, steps, err
}
