package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// asker asks an agent what a test wants to know.
type asker struct {
	questions chan api.Question
	parts     chan api.AnswerPart
	ended     chan error
}

func newAsker() *asker {
	return &asker{make(chan api.Question), make(chan api.AnswerPart, 1024), make(chan error, 1)}
}

func (a *asker) Questions(ctx context.Context, do func(context.Context, api.Question, func(api.AnswerPart) error) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-a.questions:
			a.ended <- do(ctx, q, func(p api.AnswerPart) error { a.parts <- p; return nil })
		}
	}
}

// ask gives the events that were found and what the answer says of itself.
func (a *asker) ask(q api.Question) (found []api.Found, seen api.Seen, err error) {
	a.questions <- q
	err = <-a.ended
	for {
		select {
		case p := <-a.parts:
			found = append(found, p.Found...)
			if p.Seen.Events > 0 {
				seen = p.Seen
			}
		default:
			return found, seen, err
		}
	}
}

// TestAStormIsOneStoryAndAllItsEventsAreKept: thousands of programs that one process
// drops and runs are few incidents of one story which counts them all, and each is
// found again among the events; nothing is asked that cannot be.
func TestAStormIsOneStoryAndAllItsEventsAreKept(t *testing.T) {
	s := newSite(t)
	a := newAsker()
	s.opts.Questions = a
	s.start()
	const acts = 2000
	shell := event.Process{ID: "77-1", PID: 1 << 30, Path: "/bin/sh"}
	for n := range acts {
		path := fmt.Sprintf("/tmp/p%d", n)
		s.sensor.events <- event.Event{Key: fmt.Sprintf("e%d", n), Kind: event.KindExec, Time: time.Now(), Container: &event.Container{ID: idA},
			Process: &shell, Exec: &event.Exec{Path: path, Upper: true},
			Decision: &event.Decision{Control: event.ControlDrift, Effect: event.EffectKill, Outcome: event.Killed, Mechanism: "exec-kill"}}
	}
	var last event.Incident
	told := 0
	counted := func() bool {
		told = 0
		stories := map[string]bool{}
		for _, r := range s.uplink.of(api.RecordIncident) {
			var inc event.Incident
			if json.Unmarshal(r.Body, &inc) != nil || inc.Story == nil {
				continue
			}
			told++
			stories[inc.Story.Key] = true
			if last.Story == nil || inc.Story.Revision > last.Story.Revision {
				last = inc
			}
		}
		return len(stories) == 1 && told > 50 && uint64(told)+last.Story.Counted >= 1000
	}
	for deadline := time.Now().Add(30 * time.Second); !counted(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d incidents, the last of %+v", told, last.Story)
		}
	}
	if told > 60 || last.Story.Severity != event.SeverityHigh {
		t.Errorf("%d incidents of %d acts: %+v", told, acts, last.Story)
	}
	var found []api.Found
	var seen api.Seen
	var err error
	for deadline := time.Now().Add(30 * time.Second); len(found) < acts && time.Now().Before(deadline); {
		found, seen, err = a.ask(api.Question{Kind: api.AskEvents, Where: `exec.path.startsWith("/tmp/p")`})
	}
	if err != nil || len(found) != acts || seen.Missing != 0 {
		t.Errorf("%d of %d events are found: %+v %v", len(found), acts, seen, err)
	}
	if some, _, err := a.ask(api.Question{Kind: api.AskEvents, Where: `exec.path == "/tmp/p7"`, Limit: 1}); err != nil || len(some) != 1 || some[0].Event.Key != "e7" {
		t.Errorf("%+v %v", some, err)
	}
	for kind, want := range map[string]string{"riddle": "upgrade", api.AskEvidence: "no evidence is kept"} {
		if _, _, err := a.ask(api.Question{Kind: kind, Story: "x"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, _, err := a.ask(api.Question{Kind: api.AskEvents, Where: "nonsense"}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a wrong condition: %v", err)
	}
	kept := map[event.Kind]event.Account{}
	for _, k := range s.agent.Status().Kept {
		kept[k.Kind] = k
	}
	if k := kept[event.KindExec]; k.Emitted != acts || k.Dropped != 0 {
		t.Errorf("accounts %+v", k)
	}
}
