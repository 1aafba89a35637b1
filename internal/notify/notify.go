// Package notify forwards incidents to a receiver, at least once.
//
// The cursor in the store is the whole memory: what lies after it is sent again
// after every restart and every lost connection. A written message is not a
// delivered one, so the cursor follows only when the receiver's host has
// acknowledged a message and its connection has then stayed whole for the settle
// time, or when the receiver was seen to read everything at an orderly close.
//
// What is guaranteed: an incident is lost only when a receiver takes it off its
// connection and fails more than the settle time later without having written it
// down. Incidents of the settle time come again after a lost connection; every
// delivery carries the incident's key, to drop repetitions by.
package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Entry is an incident at its place in the store's order.
type Entry struct {
	Cursor   uint64
	Incident event.Incident
}

// Source is where incidents come from and where the cursor is kept.
type Source interface {
	// After returns up to limit entries with a cursor above the given one, in
	// rising order, and returns at once, also with none. An entry must not
	// appear below one that was returned before.
	After(ctx context.Context, cursor uint64, limit int) ([]Entry, error)
	// SaveCursor keeps the cursor across restarts.
	SaveCursor(ctx context.Context, cursor uint64) error
}

// Transport opens connections to one receiver.
type Transport interface {
	Open(ctx context.Context) (Session, error)
}

// Session is one connection. Send and Close are called by one goroutine.
type Session interface {
	// Send returns nil when the receiver's host has all of the incidents.
	Send(ctx context.Context, incidents []event.Incident) error
	// Broken is closed when the receiver has gone away.
	Broken() <-chan struct{}
	// Close ends the session. nil means that the receiver read everything.
	Close(ctx context.Context) error
}

// Options of a Forwarder.
type Options struct {
	Cursor uint64          // as saved last; 0 sends everything
	Wake   <-chan struct{} // optional: there may be new incidents
	Poll   time.Duration   // how often to look without being woken; 0 means 2 s
	Settle time.Duration   // see the package comment; 0 means 30 s
}

const (
	sendAtOnce  = 64
	retryFirst  = 200 * time.Millisecond
	retryMost   = 30 * time.Second
	closeWithin = 3 * time.Second
)

// State is what a forwarder can say about itself.
type State struct {
	Connected bool
	Sent      uint64 // incidents, repetitions included
	Cursor    uint64 // saved
	Err       error  // why it is not connected; nil when it is
}

// Forwarder sends incidents from a source to a receiver.
type Forwarder struct {
	source    Source
	transport Transport
	options   Options

	mu    sync.Mutex
	state State
}

// New makes a forwarder; Run does the work.
func New(s Source, t Transport, o Options) *Forwarder {
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Settle <= 0 {
		o.Settle = 30 * time.Second
	}
	return &Forwarder{source: s, transport: t, options: o, state: State{Cursor: o.Cursor}}
}

// State may be called at any time.
func (f *Forwarder) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *Forwarder) update(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// Run forwards until ctx ends, connecting anew for as long as it takes. It runs
// once at a time.
func (f *Forwarder) Run(ctx context.Context) error {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		sent, err := f.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.update(func(s *State) { s.Connected, s.Err = false, err })
		if sent {
			wait = retryFirst
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// mark is a cursor and when its incident reached the receiver's host.
type mark struct {
	cursor uint64
	at     time.Time
}

// session forwards over one connection until it breaks or ctx ends.
func (f *Forwarder) session(ctx context.Context) (sent bool, err error) {
	s, err := f.transport.Open(ctx)
	if err != nil {
		return false, err
	}
	f.update(func(st *State) { st.Connected, st.Err = true, nil })
	cursor := f.State().Cursor
	defer func() { err = errors.Join(err, f.finish(ctx, s, cursor, err == nil)) }()
	tick := time.NewTicker(min(f.options.Poll, f.options.Settle))
	defer tick.Stop()
	var marks []mark
	for {
		entries, err := f.source.After(ctx, cursor, sendAtOnce)
		if err != nil {
			return sent, orderly(ctx, fmt.Errorf("reading incidents: %w", err))
		}
		if len(entries) > 0 {
			if err := s.Send(ctx, incidents(entries)); err != nil {
				return sent, err
			}
			sent, cursor = true, entries[len(entries)-1].Cursor
			marks = append(marks, mark{cursor, time.Now()})
			f.update(func(st *State) { st.Sent += uint64(len(entries)) })
		}
		if marks, err = f.settle(ctx, s, marks); err != nil {
			return sent, orderly(ctx, err)
		}
		if len(entries) == sendAtOnce {
			continue
		}
		select {
		case <-ctx.Done():
			return sent, nil
		case <-s.Broken():
			return sent, errors.New("the receiver closed the connection")
		case <-f.options.Wake:
		case <-tick.C:
		}
	}
}

// orderly is nil for what is only the end of ctx: the session itself is whole.
func orderly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func incidents(entries []Entry) []event.Incident {
	list := make([]event.Incident, len(entries))
	for i, e := range entries {
		list[i] = e.Incident
	}
	return list
}

// settle saves the cursor up to what has been with the receiver long enough.
func (f *Forwarder) settle(ctx context.Context, s Session, marks []mark) ([]mark, error) {
	select {
	case <-s.Broken():
		return marks, nil // nothing on a broken connection is proven
	default:
	}
	n := 0
	for n < len(marks) && time.Since(marks[n].at) >= f.options.Settle {
		n++
	}
	if n == 0 {
		return marks, nil
	}
	return marks[n:], f.save(ctx, marks[n-1].cursor)
}

func (f *Forwarder) save(ctx context.Context, cursor uint64) error {
	if cursor == f.State().Cursor {
		return nil
	}
	if err := f.source.SaveCursor(ctx, cursor); err != nil {
		return fmt.Errorf("saving the cursor: %w", err)
	}
	f.update(func(s *State) { s.Cursor = cursor })
	return nil
}

// finish closes the session, also after ctx has ended; when the receiver read
// everything, the cursor follows at once.
func (f *Forwarder) finish(ctx context.Context, s Session, cursor uint64, whole bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	if err := s.Close(ctx); err != nil || !whole {
		return err
	}
	return f.save(ctx, cursor)
}
