package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// step is an incident of a story.
func step(key, story string, n int, severity event.Severity, outcome event.Outcome) event.Incident {
	i := Incident(key)
	i.Severity, i.Decision.Outcome = event.SeverityLow, outcome
	i.Story = &event.Story{Key: story, Step: n, Steps: n, Revision: uint64(n), Severity: severity, Sentence: fmt.Sprintf("%d things", n)}
	return i
}

// stories: incidents are listed by their stories, whatever order they come in and
// however often, and the newest word of a story counts.
func stories(t *testing.T, s *store.Store) {
	b := Batch("a1",
		Record(t, 1, api.RecordIncident, "k1", step("k1", "s1", 1, event.SeverityLow, event.Detected)),
		Record(t, 2, api.RecordIncident, "alone", Incident("alone")),
		Record(t, 3, api.RecordIncident, "k3", step("k3", "s1", 3, event.SeverityHigh, event.Killed)),
		Record(t, 4, api.RecordIncident, "k2", step("k2", "s1", 2, event.SeverityMedium, event.Detected)),
		Record(t, 5, api.RecordIncident, "other", step("other", "s2", 1, event.SeverityLow, event.Prevented)))
	ingest(t, s, b)
	ingest(t, s, b)
	// Another agent's story of the same key is another one.
	ingest(t, s, Batch("a2", Record(t, 1, api.RecordIncident, "k1", step("k1", "s1", 9, event.SeverityCritical, event.Detected))))
	for _, c := range []struct {
		f    store.IncidentFilter
		want string
	}{
		{store.IncidentFilter{}, "11:9 5:1 1:3 2:1"},
		{store.IncidentFilter{Agent: "a1"}, "5:1 1:3 2:1"},
		{store.IncidentFilter{Agent: "a1", Severity: event.SeverityHigh}, "1:3 2:1"},
		{store.IncidentFilter{Severity: event.SeverityCritical}, "11:9"},
		{store.IncidentFilter{Agent: "a1", Outcome: event.Killed}, "1:3 2:1"},
		{store.IncidentFilter{Key: "k1", Agent: "a1"}, "1:3"},
		{store.IncidentFilter{Before: 5}, "1:3 2:1"},
		{store.IncidentFilter{Before: 4}, "2:1"},
		{store.IncidentFilter{Limit: 2}, "11:9 5:1"},
		{store.IncidentFilter{Text: "web-1", Since: time.Now().Add(time.Hour)}, ""},
	} {
		got, err := s.Stories(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%+v: %v", c.f, err)
		}
		var said []string
		for _, x := range got {
			said = append(said, fmt.Sprintf("%d:%d", x.ID, x.Steps))
		}
		if strings.Join(said, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.f, said, c.want)
		}
	}
	rising, err := s.Incidents(t.Context(), store.IncidentFilter{Rises: true, Agent: "a1", Oldest: true})
	if err != nil || len(rising) != 4 || rising[2].Key != "k3" {
		t.Errorf("%d incidents began a story or made it worse: %v", len(rising), err)
	}
	for _, id := range []uint64{1, 3, 4} {
		one, steps, err := s.Story(t.Context(), id)
		if err != nil || one.ID != 1 || len(steps) != 3 || one.Severity != event.SeverityHigh || one.Sentence != "3 things" {
			t.Errorf("incident %d: %+v with %d steps, %v", id, one, len(steps), err)
		}
	}
	if one, steps, err := s.Story(t.Context(), 2); err != nil || len(steps) != 1 || one.Steps != 1 || one.Sentence == "" {
		t.Errorf("an incident alone: %+v %d %v", one, len(steps), err)
	}
	if _, _, err := s.Story(t.Context(), 99); err == nil {
		t.Error("there is a story of no incident")
	}
}
