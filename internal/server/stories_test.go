package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// breakIn is a story of three steps, as an agent tells it.
func breakIn(t testing.TB) []api.Record {
	t.Helper()
	at := time.Now().Add(-time.Minute)
	shell := event.Process{ID: "4099-5", PID: 4099, Path: "/usr/sbin/nginx", Comm: "nginx"}
	var records []api.Record
	for n, c := range []struct {
		title, sentence, detection string
		severity                   event.Severity
		outcome                    event.Outcome
		attack                     string
	}{
		{"Shell started by a server", "`/usr/sbin/nginx` in `web-1` started `/bin/sh`; it was recorded.", "server-shell", event.SeverityHigh, event.Detected, "T1190"},
		{"Network tool", "`/usr/bin/curl` was run in `web-1`; it was recorded.", "network-tool", event.SeverityLow, event.Detected, "T1046"},
		{"Program that was not in the image", "`/tmp/xmrig` was written into `web-1` after it started, then run; Breakwater killed it before its first instruction.", "", event.SeverityHigh, event.Killed, "T1105"},
	} {
		p := event.Process{ID: fmt.Sprintf("%d-9", 4200+n), ParentID: shell.ID, PID: 4200 + n, PPID: 4099, Path: "/bin/sh", Comm: "sh"}
		key := fmt.Sprintf("break-in-%d", n)
		inc := event.Incident{
			Key: key, Time: at.Add(time.Duration(n) * 3 * time.Second), Host: "harbour-1", Title: c.title, Sentence: c.sentence, Detection: c.detection,
			Severity: c.severity, Attack: []string{c.attack}, Container: web1(), Tree: []event.Process{shell, p},
			Decision: event.Decision{Control: event.ControlDetection, Outcome: c.outcome, Effect: event.EffectAlert, Rule: c.detection, Why: "A server that starts a shell was most likely entered."},
			Event:    event.Event{Key: key, Kind: event.KindExec, Time: at, Container: web1(), Process: &p, Exec: &event.Exec{Path: "/bin/sh"}},
			Story: &event.Story{Key: "break-in-0", Step: n + 1, Steps: n + 1, Revision: uint64(n + 1), Severity: event.SeverityHigh, Started: at,
				Tactics: []string{"initial access"}, Sentence: c.sentence},
		}
		if n == 2 {
			inc.Story.Severity, inc.Story.Stopped, inc.Story.Tactics = event.SeverityCritical, 1, []string{"initial access", "discovery", "command and control"}
			inc.Story.Sentence = "Processes below `/usr/sbin/nginx` in `web-1` did 3 things within 6 s: shell started by a server, network tool, program that was not in the image; Breakwater stopped 1 of them, but shell started by a server happened: replace the container."
			inc.Story.Counted = 7
		}
		records = append(records, storetest.Record(t, uint64(200+n), api.RecordIncident, key, inc))
	}
	return records
}

// TestOneStoryIsOneIncident: what an agent joined is one row of the list, and one
// page that tells every step.
func TestOneStoryIsOneIncident(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	c := admin(t, s)
	if err := s.Ingest(t.Context(), storetest.Batch(agent, breakIn(t)...)); err != nil {
		t.Fatal(err)
	}
	type told struct {
		ID     uint64
		Newest struct{ ID uint64 }
		event.Story
		Incidents []struct {
			ID    uint64
			Title string
		}
	}
	var list struct{ Items []told }
	if status, _ := c.call("GET", "/api/v1/stories?container=web-1&severity=critical", "", &list); status != http.StatusOK || len(list.Items) == 0 {
		t.Fatalf("%d %+v", status, list)
	}
	first := list.Items[0]
	if first.Steps != 3 || first.Severity != event.SeverityCritical || first.Newest.ID != first.ID+2 {
		t.Errorf("%+v", first)
	}
	var one told
	for _, id := range []uint64{first.ID, first.ID + 1, first.ID + 2} {
		if status, _ := c.call("GET", fmt.Sprintf("/api/v1/stories/%d", id), "", &one); status != http.StatusOK || one.ID != first.ID || len(one.Incidents) != 3 || one.Incidents[2].Title != "Program that was not in the image" {
			t.Errorf("%d: %d %+v", id, status, one)
		}
	}
	if status, _ := c.call("GET", "/api/v1/stories/999", "", nil); status != http.StatusNotFound {
		t.Errorf("a story of no incident: %d", status)
	}
	// One alert for a story: the break-in's first step, and the one that made it worse.
	entries, err := s.Output("pager", true).After(t.Context(), first.ID-1, 100)
	if err != nil || len(entries) != 2 || entries[0].Cursor != first.ID || entries[1].Cursor != first.ID+2 {
		t.Errorf("an output of stories gets %+v %v", entries, err)
	}
	page := func(path string) string {
		status, text := c.call("GET", path, "", nil)
		if status != http.StatusOK {
			t.Fatalf("%s: %d", path, status)
		}
		return text
	}
	if text := page("/incidents"); strings.Count(text, "Processes below") != 1 || !strings.Contains(text, "1 of 3 stopped") || strings.Contains(text, "/usr/bin/curl</code> was run") {
		t.Errorf("the list does not tell the story once:\n%s", text)
	}
	for _, want := range []string{"initial access, discovery, command and control", "server-shell", "7 further acts", "A server that starts a shell was most likely entered"} {
		if text := page(fmt.Sprintf("/incidents/%d", first.ID)); !strings.Contains(text, want) {
			t.Errorf("the story's page has no %q", want)
		}
	}
	if text := page(fmt.Sprintf("/incidents/%d", first.ID+1)); !strings.Contains(text, fmt.Sprintf("Step 2 of <a href=\"/incidents/%d\">", first.ID)) {
		t.Errorf("a later step does not lead to its story")
	}
}
