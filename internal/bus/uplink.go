package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/breakwater-sec/breakwater/api"
)

const (
	batchRecords = 1024
	batchBytes   = 1 << 20
	windowSize   = 16 // batches sent and not yet committed by the store
	stallFirst   = 30 * time.Second
	stallMost    = 10 * time.Minute
)

// Queue is what the uplink reads from: a spool.
type Queue interface {
	Epoch() string
	Committed() uint64
	Read(ctx context.Context, after uint64, maxRecords, maxBytes int) ([]api.Record, error)
	Commit(seq uint64) error
}

// Uplink sends what is in the queue, in order, until ctx ends or the queue fails.
// A batch goes out when the one before it is on the server's stable storage; it
// leaves the queue when the server says that the store committed it, in the
// queue's own epoch. After every connect, and when no acknowledgement comes for
// long, everything that is not committed is sent again. One uplink at a time.
func (a *Agent) Uplink(ctx context.Context, q Queue) error {
	u := &uplink{agent: a, queue: q, progress: make(chan struct{}, 1), stall: stallFirst}
	sub, err := a.conn.Subscribe(api.CommandSubject(a.id, kindAck), u.acknowledge)
	if err != nil {
		return fmt.Errorf("bus: uplink: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	pause := retryFirst
	for {
		sent, err := u.session(ctx)
		if sent {
			pause = retryFirst
		}
		var failed *queueError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &failed):
			return fmt.Errorf("bus: uplink: %w", err)
		case errors.Is(err, errAgain):
			continue
		}
		a.note(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.uplinks: // another server, or the same one anew: it may be ready soon
			pause = retryFirst
			continue
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// errAgain: sending starts over from what is committed.
var errAgain = errors.New("reconnected or stalled")

type queueError struct{ error }

func (e *queueError) Unwrap() error { return e.error }

type uplink struct {
	agent    *Agent
	queue    Queue
	progress chan struct{} // signalled by acknowledgements
	stall    time.Duration
	sent     atomic.Uint64 // the highest number sent in this session
}

// acknowledge frees what the store has committed. It runs on the connection's
// goroutine for this subscription.
func (u *uplink) acknowledge(m *nats.Msg) {
	var ack api.Ack
	if json.Unmarshal(m.Data, &ack) != nil || ack.Version != api.Version || ack.Epoch != u.queue.Epoch() {
		return // of another life of the spool
	}
	if ack.Refused != "" && ack.Sequence > u.queue.Committed() { // not a batch that was sent twice
		u.agent.refused.Add(1)
		u.agent.note(fmt.Errorf("the server will not store records up to %d: %s", ack.Sequence, ack.Refused))
	}
	if err := u.queue.Commit(ack.Sequence); err != nil {
		u.agent.note(err)
	}
	signal(u.progress)
}

// session sends from what is committed on, until something makes it start over.
func (u *uplink) session(ctx context.Context) (sent bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); u.watch(ctx, cancel) }()
	defer func() {
		cancel(nil)
		<-watched
		// A connection that was made while the session failed for another reason
		// is told once: it must not be forgotten.
		if errors.Is(context.Cause(ctx), errAgain) {
			err = errAgain
		}
	}()
	after := u.queue.Committed()
	u.sent.Store(after)
	var window []uint64 // last numbers of the batches under way
	for {
		if window, err = u.room(ctx, window); err != nil {
			return sent, err
		}
		records, err := u.queue.Read(ctx, after, batchRecords, batchBytes)
		if ctx.Err() != nil {
			return sent, context.Cause(ctx)
		}
		if err != nil {
			return sent, &queueError{err}
		}
		if err := u.send(ctx, records); err != nil {
			return sent, err
		}
		if !sent {
			sent = true
			u.agent.allWell()
		}
		after = records[len(records)-1].Sequence
		u.sent.Store(after)
		window = append(window, after)
	}
}

func (u *uplink) send(ctx context.Context, records []api.Record) error {
	data, err := encodeBatch(api.Batch{Version: api.Version, Agent: u.agent.id, Epoch: u.queue.Epoch(), Records: records})
	if err != nil {
		return err
	}
	err = u.agent.request(ctx, kindRecords, data, nil)
	if errors.Is(context.Cause(ctx), errAgain) {
		return errAgain
	}
	return err
}

// room waits until fewer batches than the window are under way.
func (u *uplink) room(ctx context.Context, window []uint64) ([]uint64, error) {
	for {
		done := u.queue.Committed()
		for len(window) > 0 && window[0] <= done {
			window = window[1:]
		}
		if len(window) < windowSize {
			return window, nil
		}
		select {
		case <-ctx.Done():
			return window, context.Cause(ctx)
		case <-u.progress:
		}
	}
}

// watch ends the session when the connection was made anew, or when what was
// sent is not committed for long.
func (u *uplink) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	committed, since := u.queue.Committed(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.agent.uplinks:
			cancel(errAgain)
			return
		case <-ticker.C:
		}
		now := u.queue.Committed()
		if now != committed || u.sent.Load() <= now {
			if now != committed {
				u.stall = stallFirst
			}
			committed, since = now, time.Now()
		}
		if time.Since(since) > u.stall {
			u.stall = min(2*u.stall, stallMost)
			cancel(errAgain)
			return
		}
	}
}
