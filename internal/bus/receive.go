package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// ErrRefuse, wrapped in a handler's error, says that the store will never take
// this batch: it is let go, counted, and the agent is told.
var ErrRefuse = errors.New("refused for good")

const (
	retryFirst   = 100 * time.Millisecond
	retryMost    = 10 * time.Second
	handleWithin = 10 * time.Second // answering one request
)

// answer is what the server does with a message of an agent: the reply's body.
type answer func(ctx context.Context, agent string, data []byte) (any, error)

// handle answers one kind of message from all agents, each in the order in which
// it came. Replies go into the inbox of the agent that asked and nowhere else.
func (s *Server) handle(kind string, do answer) error {
	_, err := s.conn.Subscribe(api.AgentSubject("*", kind), func(m *nats.Msg) {
		agent := agentOf(m.Subject)
		if m.Reply != "" && !strings.HasPrefix(m.Reply, inbox(agent)+".") {
			s.refuse(agent, fmt.Errorf("asked for the answer at %q, which is not its inbox", m.Reply))
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), handleWithin)
		defer cancel()
		body, err := do(ctx, agent, m.Data)
		if m.Reply != "" {
			s.reply(m, body, err)
		}
	})
	return err
}

// agentOf takes the id out of bw.agent.<id>.<kind>; the subject's permission is
// what proves it.
func agentOf(subject string) string {
	agent, _, _ := strings.Cut(strings.TrimPrefix(subject, api.SubjectAgents), ".")
	return agent
}

func (s *Server) reply(m *nats.Msg, body any, err error) {
	r := api.Reply{Version: api.Version}
	if err == nil && body != nil {
		r.Body, err = json.Marshal(body)
	}
	if err != nil {
		r.Error = err.Error()
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		s.notice(fmt.Sprintf("agent %s: no answer on %s: %v", agentOf(m.Subject), m.Subject, err))
	}
}

func (s *Server) refuse(agent string, err error) {
	s.counts.refused.Add(1)
	s.notice(fmt.Sprintf("agent %s: %v", agent, err))
}

// takeIn checks a batch and puts it into the stream; the answer comes when it is
// on stable storage there.
func (s *Server) takeIn(ctx context.Context, agent string, data []byte) (any, error) {
	if _, err := decodeBatch(agent, data); err != nil {
		s.refuse(agent, err)
		return nil, err
	}
	if err := s.publish(ctx, agent, data); err != nil {
		return nil, fmt.Errorf("the server cannot take more now: %w", err)
	}
	s.counts.received.Add(1)
	return nil, nil
}

// HandleStatus passes on what agents say about their hosts. Only one handler can
// be set.
func (s *Server) HandleStatus(do func(ctx context.Context, agent string, status event.HostStatus) (api.StatusAnswer, error)) error {
	return s.handle(kindStatus, func(ctx context.Context, agent string, data []byte) (any, error) {
		var m api.Status
		if err := json.Unmarshal(data, &m); err != nil || m.Version != api.Version || m.Status.Agent != agent {
			err = fmt.Errorf("malformed status (version %d, agent %q): %w", m.Version, m.Status.Agent, errors.Join(err, ErrRefuse))
			s.refuse(agent, err)
			return nil, err
		}
		return do(ctx, agent, m.Status)
	})
}

// HandlePolicy answers agents that ask for their policy bundle. Only one handler
// can be set.
func (s *Server) HandlePolicy(do func(ctx context.Context, agent string) (api.Signed, error)) error {
	return s.handle(kindPolicy, func(ctx context.Context, agent string, _ []byte) (any, error) {
		return do(ctx, agent)
	})
}

// HandleIntelligence answers agents that ask for a part of a bundle. Only one
// handler can be set.
func (s *Server) HandleIntelligence(do func(ctx context.Context, agent string, r api.IntelligenceRequest) (api.IntelligencePart, error)) error {
	return s.handle(kindIntel, func(ctx context.Context, agent string, data []byte) (any, error) {
		var r api.IntelligenceRequest
		if err := json.Unmarshal(data, &r); err != nil || r.Version != api.Version {
			err = fmt.Errorf("malformed request for intelligence (version %d): %w", r.Version, errors.Join(err, ErrRefuse))
			s.refuse(agent, err)
			return nil, err
		}
		return do(ctx, agent, r)
	})
}

// Receive gives batches to do, one at a time and in the order of each agent,
// until ctx ends. A batch is let go only after do returned nil, that is after the
// store's commit; its agent is then told. An error is tried again, for as long as
// it takes, with growing pauses; an error that wraps ErrRefuse lets go of the
// batch. The same batch may come again: do must keep one row per key.
//
// Batches that are malformed are never given to do. Receive runs once at a time.
func (s *Server) Receive(ctx context.Context, do func(context.Context, api.Batch) error) error {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		received, err := s.receive(ctx, do)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.conn.IsClosed():
			return fmt.Errorf("bus: receiving: %w", err)
		case received:
			wait = retryFirst
		}
		// JetStream is starting anew, or was too busy to say that it lives.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// receive gives batches to do until something breaks.
func (s *Server) receive(ctx context.Context, do func(context.Context, api.Batch) error) (received bool, err error) {
	setup, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	consumer, err := s.stream.CreateOrUpdateConsumer(setup, streamName, jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait,
		MaxAckPending: 1, // strict order: an acknowledgement covers everything before it
	})
	if err != nil {
		return false, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(4), jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		m, err := messages.Next()
		if err != nil {
			return received, err
		}
		received = true
		s.commit(ctx, m, do)
	}
}

// commit has one batch stored, however long it takes.
func (s *Server) commit(ctx context.Context, m jetstream.Msg, do func(context.Context, api.Batch) error) {
	agent := strings.TrimPrefix(m.Subject(), streamSubject)
	batch, err := decodeBatch(agent, m.Data())
	if err != nil {
		s.refuse(agent, err)
		s.settle(agent, m.TermWithReason("malformed"))
		return
	}
	ack := api.Ack{Version: api.Version, Epoch: batch.Epoch, Sequence: batch.Records[len(batch.Records)-1].Sequence}
	err = s.store(ctx, m, batch, do)
	switch {
	case err == nil:
		s.counts.committed.Add(1)
		s.settle(agent, m.Ack())
	case errors.Is(err, ErrRefuse):
		s.refuse(agent, err)
		ack.Refused = err.Error()
		s.settle(agent, m.TermWithReason("refused by the store"))
	default:
		return // ctx ended; the batch comes again
	}
	data, err := json.Marshal(ack)
	if err == nil {
		err = s.conn.Publish(api.CommandSubject(agent, kindAck), data)
	}
	s.settle(agent, err)
}

// settle tells of an acknowledgement that could not be sent: the batch comes
// again, which loses nothing.
func (s *Server) settle(agent string, err error) {
	if err != nil {
		s.notice(fmt.Sprintf("agent %s: acknowledgement not sent, the batch will come again: %v", agent, err))
	}
}

// store calls do until it succeeds, refuses, or ctx ends, and keeps the message
// from being delivered to anybody else meanwhile.
func (s *Server) store(ctx context.Context, m jetstream.Msg, batch api.Batch, do func(context.Context, api.Batch) error) error {
	held, release := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); hold(held, m) }()
	defer func() { release(); <-done }()
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		err := do(ctx, batch)
		if err == nil || errors.Is(err, ErrRefuse) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.counts.retried.Add(1)
		s.notice(fmt.Sprintf("agent %s: batch not stored, trying again: %v", batch.Agent, err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func hold(ctx context.Context, m jetstream.Msg) {
	ticker := time.NewTicker(ackWait / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = m.InProgress() // missed: the batch comes once more
		}
	}
}
