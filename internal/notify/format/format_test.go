package format_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify/format"
)

func large() event.Incident {
	long := strings.Repeat("é😀\"\x00<&>", 400)
	p := event.Process{ID: "1-1", Args: []string{long, long}, Path: "/bin/sh"}
	return event.Incident{Key: "k", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Severity: event.SeverityHigh,
		Story: &event.Story{Key: long, Severity: event.Severity(long), Tactics: []string{long}, Sentence: long, Steps: 3},
		Title: long, Sentence: long, Host: long, Agent: long, Detection: long, Attack: []string{long},
		Container: &event.Container{ID: long, Name: long, Labels: map[string]string{long: long}},
		Tree:      []event.Process{p, p, p, p}, Event: event.Event{Key: long, Process: &p}}
}

func TestJSON(t *testing.T) {
	i := event.Incident{Key: "k1", Host: "h", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Severity: event.SeverityCritical,
		Title: "Reverse shell", Sentence: "näh", Decision: event.Decision{Control: event.ControlDetection, Effect: event.EffectKill, Outcome: event.Killed, Why: "w"},
		Event: event.Event{Key: "e", Kind: event.KindExec, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	got, err := format.JSON(i, 8192)
	want := `{"schema":1,"vendor":"Breakwater","type":"incident","incident":{"key":"k1","time":"2026-01-02T03:04:05Z","host":"h","severity":"critical","title":"Reverse shell","sentence":"n\u00e4h","decision":{"control":"detection","effect":"kill","outcome":"killed","why":"w"},"event":{"key":"e","kind":"exec","time":"2026-01-02T03:04:05Z"}}}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s\n%v", got, want, err)
	}
}

func TestShortenedJSONKeepsItsLimitAndTheCallersIncident(t *testing.T) {
	for _, limit := range []int{0, 1024, 2000, 4096, 7000, 16384, 1 << 20} {
		i := large()
		got, err := format.JSON(i, limit)
		if err != nil {
			t.Fatalf("%d: %v", limit, err)
		}
		if len(got) > max(limit, format.MinSize) {
			t.Errorf("%d: %d bytes", limit, len(got))
		}
		var d struct {
			Incident  event.Incident
			Shortened []string
		}
		if err := json.Unmarshal(got, &d); err != nil {
			t.Fatal(err)
		}
		if d.Incident.Key != "k" || d.Incident.Severity != event.SeverityHigh || (len(d.Shortened) > 0) != (limit < 1<<20) {
			t.Errorf("%d: key %q, severity %q, shortened %v", limit, d.Incident.Key, d.Incident.Severity, d.Shortened)
		}
		if !reflect.DeepEqual(i, large()) {
			t.Fatalf("%d: the caller's incident was changed", limit)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("k", "sentence", "high", int64(0), 1024)
	f.Add(strings.Repeat("\xff", 600), "\u2028\x7f", "x", int64(1)<<62, 0)
	f.Fuzz(func(t *testing.T, key, text, severity string, at int64, limit int) {
		limit %= 1 << 16
		i := event.Incident{Key: key, Title: text, Sentence: text, Host: text, Severity: event.Severity(severity), Time: time.Unix(at, 0)}
		got, err := format.JSON(i, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > max(limit, format.MinSize) || !json.Valid(got) {
			t.Fatalf("%d bytes for %d: %s", len(got), limit, got)
		}
		for _, c := range got {
			if c < ' ' || c > '~' {
				t.Fatalf("byte %#x in %q", c, got)
			}
		}
	})
}
