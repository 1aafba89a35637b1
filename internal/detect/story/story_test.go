package story_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/detect/story"
	"github.com/breakwater-sec/breakwater/internal/event"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// act is an incident of a process below a shell of a container.
func act(n int, container, shell, title string, severity event.Severity, outcome event.Outcome, attack ...string) event.Incident {
	p := event.Process{ID: fmt.Sprintf("%d-1", n), ParentID: shell, Path: "/bin/x"}
	return event.Incident{
		Key: fmt.Sprintf("key-%s-%d", container, n), Time: noon.Add(time.Duration(n) * time.Second), Title: title, Severity: severity, Attack: attack,
		Sentence: title + " in " + container + ".", Detection: strings.ReplaceAll(strings.ToLower(title), " ", "-"),
		Decision: event.Decision{Outcome: outcome, Effect: event.EffectAlert}, Container: &event.Container{ID: container, Name: container},
		Tree: []event.Process{{ID: shell, Path: "/bin/sh"}, p}, Event: event.Event{Process: &p},
	}
}

func open(t *testing.T, path string) *story.Keeper {
	t.Helper()
	k, err := story.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// take joins and finishes an incident.
func take(t *testing.T, k *story.Keeper, inc event.Incident) event.Story {
	t.Helper()
	if !k.Join(&inc) {
		t.Fatalf("%s is not told", inc.Key)
	}
	k.Finish(&inc)
	if err := k.Err(); err != nil {
		t.Fatal(err)
	}
	return *inc.Story
}

func TestOneTreeIsOneStory(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "stories"))
	first := take(t, k, act(1, "web", "9-1", "Network tool", event.SeverityLow, event.Detected, "T1046"))
	if first.Step != 1 || first.Severity != event.SeverityLow || first.Sentence != "Network tool in web." {
		t.Errorf("first: %+v", first)
	}
	second := take(t, k, act(2, "web", "9-1", "Hidden command", event.SeverityMedium, event.Detected, "T1059.004"))
	if second.Key != first.Key || second.Step != 2 || second.Severity != event.SeverityMedium {
		t.Errorf("second: %+v", second)
	}
	third := take(t, k, act(3, "web", "9-1", "Program that was not in the image", event.SeverityMedium, event.Killed, "T1105"))
	if third.Severity != event.SeverityHigh {
		t.Errorf("three tactics with a medium act are %s", third.Severity)
	}
	if got := strings.Join(third.Tactics, ", "); got != "execution, discovery, command and control" {
		t.Errorf("tactics %q", got)
	}
	want := "Processes below `/bin/sh` in `web` did 3 things within 2 s: network tool, hidden command, program that was not in the image; " +
		"Breakwater stopped 1 of them, but network tool happened: replace the container."
	if third.Sentence != want {
		t.Errorf("sentence\n%s\nwant\n%s", third.Sentence, want)
	}
	// What has another tree, or is elsewhere, or later, is another story.
	for _, inc := range []event.Incident{
		act(4, "web", "77-1", "Hidden command", event.SeverityMedium, event.Detected),
		act(5, "other", "9-1", "Hidden command", event.SeverityMedium, event.Detected),
		act(5+int(story.Window/time.Second), "web", "9-1", "Hidden command", event.SeverityMedium, event.Detected),
	} {
		if s := take(t, k, inc); s.Key != inc.Key || s.Step != 1 {
			t.Errorf("%s joined %s as step %d", inc.Key, s.Key, s.Step)
		}
	}
	alone := event.Incident{Key: "gate", Time: noon}
	if !k.Join(&alone) || alone.Story != nil {
		t.Errorf("an incident of no process is in story %+v", alone.Story)
	}
}

// TestStoriesGoOnAfterAKill: an agent that is killed leaves its stories, also with
// a torn line at the end, and what it had not finished.
func TestStoriesGoOnAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stories")
	k := open(t, path)
	first := take(t, k, act(1, "web", "9-1", "Network tool", event.SeverityLow, event.Killed, "T1046"))
	unfinished := act(2, "web", "9-1", "Hidden command", event.SeverityMedium, event.Detected, "T1059")
	k.Join(&unfinished)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"story": {"key": "to`); err != nil {
		t.Fatal(err)
	}
	f.Close()

	k = open(t, path)
	k.Finish(&unfinished)
	k.Finish(&unfinished) // it was in the spool, and nobody knew
	if s := unfinished.Story; s.Key != first.Key || s.Step != 2 || s.Steps != 2 || s.Stopped != 1 || s.Revision <= first.Revision {
		t.Errorf("the unfinished step: %+v", s)
	}
	if s := take(t, k, act(3, "web", "9-1", "Network tool", event.SeverityLow, event.Detected)); s.Key != first.Key || s.Step != 3 || s.Steps != 3 {
		t.Errorf("the next step: %+v", s)
	}
	// Without the file it is told all the same, and overrides what was said.
	other := open(t, filepath.Join(t.TempDir(), "lost"))
	before := unfinished.Story.Revision
	other.Finish(&unfinished)
	if s := unfinished.Story; s.Key != first.Key || s.Revision <= before {
		t.Errorf("with the file lost: %+v", s)
	}
}

// TestAStormIsOneStoryOfFewSteps: thousands of acts that differ cost few incidents,
// and none is forgotten in the count; whatever is still to be acted on is told.
func TestAStormIsOneStoryOfFewSteps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stories")
	k := open(t, path)
	told, last := 0, event.Story{}
	const acts = 5000
	for n := range acts {
		inc := act(n, "web", "9-1", "Program that was not in the image", event.SeverityHigh, event.Killed)
		inc.Time = noon
		if k.Join(&inc) {
			k.Finish(&inc)
			told, last = told+1, *inc.Story
		}
	}
	if told > 60 || last.Steps != told {
		t.Errorf("%d of %d acts are told one by one; the story has %d", told, acts, last.Steps)
	}
	end := act(acts, "web", "9-1", "Hidden command", event.SeverityHigh, event.Detected)
	end.Time = noon
	end.Decision.Effect = event.EffectKill
	if s := take(t, k, end); uint64(s.Steps)+s.Counted != acts+1 {
		t.Errorf("%d told and %d counted of %d", s.Steps, s.Counted, acts+1)
	} else if !strings.Contains(s.Sentence, fmt.Sprintf("and %d more like these", s.Counted)) {
		t.Error(s.Sentence)
	}
	for n := range 200 {
		end.Key = fmt.Sprintf("end-%d", n)
		if !k.Join(&end) {
			t.Fatalf("act %d, which is still to be ended, is not told", n)
		}
	}
}

func TestEveryTechniqueOfOursHasATactic(t *testing.T) {
	rules, err := detect.Load(content.Detections())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.All() {
		for _, technique := range r.Attack {
			if story.Tactic(technique) == "" {
				t.Errorf("%s names %s, which is of no tactic here", r.ID, technique)
			}
		}
	}
}
