package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/breakwater-sec/breakwater/api"
)

// The bounds of questions.
const (
	maxQuestions = 64                    // that a server has open
	maxAnswering = 4                     // that an agent answers at once
	partsWaiting = 4                     // of one answer, at the server
	answerWithin = 30 * time.Second      // without a part or a sign of life
	lifeEvery    = 5 * time.Second       // signs of life of an agent that has nothing to say
	waitAgain    = 50 * time.Millisecond // before a part is sent again
)

// ErrAway is wrapped by Ask's error when the agent is not connected.
var ErrAway = errors.New("the agent is not connected")

// asked are the questions that wait for answers.
type asked struct {
	once sync.Once
	err  error

	mu   sync.Mutex
	open map[string]*waiting
}

// waiting is one question.
type waiting struct {
	agent string
	next  int
	parts chan api.AnswerPart
}

// Ask asks an agent and gives the parts of its answer to do, in order, until the
// last one; an error of do ends it. The answer's own error is returned as one.
//
// Agents answer by requests of their own, since they may publish nowhere else; the
// reply to a part says that it was taken, so that a slow reader holds up nobody but
// the agent that answers it.
func (s *Server) Ask(ctx context.Context, agent string, q api.Question, do func(api.AnswerPart) error) error {
	if err := checkAgent(agent); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	s.asked.once.Do(func() { s.asked.err = s.handle(kindAnswer, s.takePart) })
	if s.asked.err != nil {
		return s.asked.err
	}
	if !slices.Contains(s.Connected(), agent) {
		return fmt.Errorf("agent %s: %w", agent, ErrAway)
	}
	q.Version, q.ID = api.Version, rand.Text()
	w, err := s.asked.begin(q.ID, agent)
	if err != nil {
		return err
	}
	defer s.asked.end(q.ID)
	// Nobody can reply there; NATS itself says when nobody listens.
	unheard := make(chan *nats.Msg, 1)
	inbox := nats.NewInbox()
	sub, err := s.conn.ChanSubscribe(inbox, unheard)
	if err != nil {
		return fmt.Errorf("bus: agent %s: %w", agent, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	data, err := json.Marshal(q)
	if err == nil {
		err = s.conn.PublishRequest(api.CommandSubject(agent, kindAsk), inbox, data)
	}
	if err != nil {
		return fmt.Errorf("bus: agent %s: %w", agent, err)
	}
	silence := time.NewTimer(answerWithin)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-unheard:
			return fmt.Errorf("agent %s: %w: it starts or ends, or is older than this server", agent, ErrAway)
		case <-silence.C:
			return fmt.Errorf("agent %s: no answer for %s: it went away, or is older than this server", agent, answerWithin)
		case part := <-w.parts:
			silence.Reset(answerWithin)
			if err := do(part); err != nil || part.Last {
				if err == nil && part.Error != "" {
					err = fmt.Errorf("agent %s: %s", agent, part.Error)
				}
				return err
			}
		}
	}
}

func (a *asked) begin(id, agent string) (*waiting, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxQuestions {
		return nil, fmt.Errorf("%d questions to agents are open: wait until one ends", maxQuestions)
	}
	if a.open == nil {
		a.open = map[string]*waiting{}
	}
	w := &waiting{agent: agent, parts: make(chan api.AnswerPart, partsWaiting)}
	a.open[id] = w
	return w, nil
}

func (a *asked) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, id)
}

// takePart takes a part of an answer from an agent. Only the agent that was asked
// can answer.
func (s *Server) takePart(_ context.Context, agent string, data []byte) (any, error) {
	var part api.AnswerPart
	if err := json.Unmarshal(data, &part); err != nil || part.Version != api.Version {
		err = fmt.Errorf("malformed answer (version %d): %w", part.Version, errors.Join(err, ErrRefuse))
		s.refuse(agent, err)
		return nil, err
	}
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	w := s.asked.open[part.Question]
	switch {
	case w == nil || w.agent != agent || part.Part > w.next:
		return api.Heard{Stop: true}, nil
	case part.Part < w.next: // its reply was lost
		return api.Heard{}, nil
	}
	select {
	case w.parts <- part:
		w.next++
		return api.Heard{}, nil
	default:
		return api.Heard{Wait: true}, nil
	}
}

// errStopped: nobody waits for the answer any more.
var errStopped = errors.New("nobody waits for more")

// Questions answers the server's questions by do until ctx ends: do sends parts,
// and what it returns ends the answer. The context of do ends when nobody waits for
// the answer any more. Questions runs once at a time.
func (a *Agent) Questions(ctx context.Context, do func(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error) error {
	slots := make(chan struct{}, maxAnswering)
	var answering sync.WaitGroup
	defer answering.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sub, err := a.conn.Subscribe(api.CommandSubject(a.id, kindAsk), func(m *nats.Msg) {
		var q api.Question
		if json.Unmarshal(m.Data, &q) != nil || q.Version != api.Version || q.ID == "" {
			return // the server hears nothing, and says so
		}
		select {
		case slots <- struct{}{}:
		default:
			q.Kind = "" // refused below, in words
			answering.Go(func() {
				a.answer(ctx, q, func(context.Context, api.Question, func(api.AnswerPart) error) error {
					return fmt.Errorf("it answers %d questions already: try again", maxAnswering)
				})
			})
			return
		}
		answering.Go(func() {
			defer func() { <-slots }()
			a.answer(ctx, q, do)
		})
	})
	if err != nil {
		return fmt.Errorf("bus: questions: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	<-ctx.Done()
	return ctx.Err()
}

// answer carries out one question, with signs of life while nothing is found.
func (a *Agent) answer(ctx context.Context, q api.Question, do func(context.Context, api.Question, func(api.AnswerPart) error) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // of what follows
	next := 0
	send := func(part api.AnswerPart) error {
		mu.Lock()
		defer mu.Unlock()
		part.Version, part.Question, part.Part = api.Version, q.ID, next
		err := a.part(ctx, part)
		if err != nil {
			cancel()
			return err
		}
		next++
		return nil
	}
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		tick := time.NewTicker(lifeEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = send(api.AnswerPart{}) // an error ends ctx
			}
		}
	}()
	last := api.AnswerPart{Last: true}
	if err := do(ctx, q, send); err != nil {
		last.Error = err.Error()
	}
	_ = send(last) // whoever asked notices that it is missing
	cancel()
	<-alive
}

// part sends one until it is taken.
func (a *Agent) part(ctx context.Context, part api.AnswerPart) error {
	for {
		var heard api.Heard
		if err := a.Request(ctx, kindAnswer, part, &heard); err != nil {
			return err
		}
		switch {
		case heard.Stop:
			return errStopped
		case !heard.Wait:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(waitAgain):
		}
	}
}
