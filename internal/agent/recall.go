package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/journal"
)

// Questioner brings the questions of a server; bus.Agent does.
type Questioner interface {
	Questions(ctx context.Context, do func(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error) error
}

// Journal is the folder, in an agent's, that events are kept in.
func Journal(data string) string { return filepath.Join(data, "events") }

// remember keeps an event, with what is known of its container but for what takes
// much room.
func (a *Agent) remember(ev event.Event) {
	if c := ev.Container; c != nil {
		slim := *c
		slim.Labels, slim.Image.Pinned = nil, nil
		slim.Image.References = slim.Image.References[:min(1, len(slim.Image.References))]
		ev.Container = &slim
	}
	a.journal.Add(ev)
}

// answer answers one question of the server.
func (a *Agent) answer(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error {
	switch q.Kind {
	case api.AskEvents:
		return a.answerEvents(ctx, q, send)
	case api.AskEvidence:
		return a.answerEvidence(ctx, q, send)
	}
	return fmt.Errorf("this agent knows no question of kind %q: upgrade it", q.Kind)
}

// The bounds of a part of an answer.
const (
	partEvents = 256
	partEvery  = 200 * time.Millisecond
)

func (a *Agent) answerEvents(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error {
	match, err := Matcher(q.Where, q.Detections)
	if err != nil {
		return err
	}
	out := &part{send: send, sent: time.Now()}
	found := 0
	take := func(ev event.Event) error {
		f, ok := match(ev)
		if !ok {
			return nil
		}
		if err := out.add(f, q.Follow); err != nil {
			return err
		}
		if found++; found == q.Limit {
			return journal.ErrStop
		}
		return nil
	}
	read := journal.Read
	if q.Follow {
		read = journal.Follow
	}
	seen, err := read(ctx, Journal(a.opts.Data), q.Since, take)
	if err != nil {
		return err
	}
	out.Seen = api.Seen(seen)
	return out.flush()
}

// part gathers what is found until it is worth a message.
type part struct {
	api.AnswerPart
	send  func(api.AnswerPart) error
	sent  time.Time
	bytes int
}

func (p *part) add(f api.Found, atOnce bool) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	p.Found, p.bytes = append(p.Found, f), p.bytes+len(raw)
	if !atOnce && len(p.Found) < partEvents && p.bytes < api.MaxPart && time.Since(p.sent) < partEvery {
		return nil
	}
	return p.flush()
}

func (p *part) flush() error {
	err := p.send(p.AnswerPart)
	p.AnswerPart, p.bytes, p.sent = api.AnswerPart{}, 0, time.Now()
	return err
}

// Matcher is what a question about events asks for: the events that a condition
// holds for, or those that detections fire on.
func Matcher(where string, detections []byte) (func(event.Event) (api.Found, bool), error) {
	if len(detections) == 0 {
		w, err := detect.ParseWhere(where)
		if err != nil {
			return nil, err
		}
		return func(ev event.Event) (api.Found, bool) { return api.Found{Event: ev}, w.Matches(ev) }, nil
	}
	rules, err := detect.LoadText("detections", detections)
	if err != nil {
		return nil, err
	}
	fire := rules.Replay()
	return func(ev event.Event) (api.Found, bool) {
		f := api.Found{Event: ev}
		for _, r := range fire(ev) {
			f.Fired = append(f.Fired, r.ID)
		}
		return f, len(f.Fired) > 0
	}, nil
}
