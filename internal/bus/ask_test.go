package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// TestQuestionsToAgents: an answer of many parts comes whole and in order to a slow
// reader, an error in words, and whoever wants no more ends the agent's work.
func TestQuestionsToAgents(t *testing.T) {
	one, two := newIdentity(t), newIdentity(t)
	h := serve(t, map[string]string{"a1": one.public, "a2": two.public})
	a := h.connect(t, "a1", one)
	ended := make(chan struct{}, 8)
	const parts = 200
	go func() {
		_ = a.Questions(t.Context(), func(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error {
			switch q.Where {
			case "many":
				for n := range parts {
					if err := send(api.AnswerPart{Found: []api.Found{{Event: event.Event{Key: fmt.Sprint(n)}}}}); err != nil {
						return err
					}
				}
				return nil
			case "endless":
				for send(api.AnswerPart{Data: []byte("x")}) == nil {
				}
				<-ctx.Done()
				ended <- struct{}{}
				return ctx.Err()
			case "silent":
				<-ctx.Done()
				ended <- struct{}{}
				return nil
			}
			return errors.New("no such question")
		})
	}()
	ask := func(agent, where string, do func(api.AnswerPart) error) error {
		return h.Ask(t.Context(), agent, api.Question{Kind: api.AskEvents, Where: where}, do)
	}
	var err error
	eventually(t, "the agent answers", func() bool {
		err = ask("a1", "nonsense", func(api.AnswerPart) error { return nil })
		return !errors.Is(err, bus.ErrAway)
	})
	if err == nil || !strings.Contains(err.Error(), "no such question") {
		t.Errorf("error %v", err)
	}
	if err := ask("a2", "many", nil); !errors.Is(err, bus.ErrAway) {
		t.Errorf("an agent that is away: %v", err)
	}
	var got []string
	if err := ask("a1", "many", func(p api.AnswerPart) error {
		for _, f := range p.Found {
			got = append(got, f.Event.Key)
		}
		return nil
	}); err != nil || len(got) != parts || got[parts-1] != fmt.Sprint(parts-1) {
		t.Errorf("%d parts: %v", len(got), err)
	}
	enough := errors.New("enough")
	if err := ask("a1", "endless", func(api.AnswerPart) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	eventually(t, "the agent's work ends", func() bool { return len(ended) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Ask(ctx, "a1", api.Question{Where: "silent"}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "the silent work ends too", func() bool { return len(ended) == 2 })
	// Another agent cannot answer in its place, and malformed answers are refused.
	b := h.connect(t, "a2", two)
	eventually(t, "a2 is there", b.Connected)
	var heard api.Heard
	if err := b.Request(t.Context(), "answer", api.AnswerPart{Version: api.Version, Question: "guess"}, &heard); err != nil || !heard.Stop {
		t.Errorf("%+v %v", heard, err)
	}
	if err := b.Request(t.Context(), "answer", api.AnswerPart{Version: 99}, nil); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Error(err)
	}
}
