// Package spool is the agent's disk-backed queue: what an agent saw waits here
// until the server's store has committed it.
//
// A spool is one folder with one owner. Records get sequence numbers that rise
// by one; a number is given twice only when nobody outside can have seen it,
// because Read never hands out a record that is not yet on stable storage.
// Where a spool cannot prove that, since its folder was lost or its end was
// torn off by a crash, it takes a new epoch: acknowledgements of an older epoch
// mean nothing to it, and what is left is sent again.
//
// Incidents are never shed for telemetry. Events and reports are refused, and
// counted, when the bound is reached; an incident waits even for a full disk.
package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// Limits that hold for every spool.
const (
	MaxBody = 6 << 20 // bytes of one record's body
	MaxKey  = 512     // bytes of one record's key

	defaultMaxBytes = 1 << 30
	minMaxBytes     = 64 << 10
	maxSegmentBytes = 4 << 20
	retryFull       = 50 * time.Millisecond
	retryFullMost   = 2 * time.Second
)

// Errors that callers tell apart, always wrapped with the record and the way out.
var (
	// ErrFull: the bound is reached; the record was dropped and counted.
	ErrFull = errors.New("spool is full")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("spool is closed")
	// ErrInvalid: the record can never be stored; nothing was counted.
	ErrInvalid = errors.New("invalid record")
)

// Options of a spool. The zero value is usable.
type Options struct {
	// MaxBytes bounds events and reports on disk: events may fill four fifths
	// of it, reports all. 0 means 1 GiB; less than 64 KiB is raised to that.
	// Incidents are bounded only by the disk.
	MaxBytes int64
	// SyncEvery is how long an event may wait for stable storage while nobody
	// reads; 0 means 1 s. Incidents and reports are on stable storage when
	// Append returns.
	SyncEvery time.Duration
}

// Spool is an open queue. All methods are safe for concurrent use; Read expects
// one reader and serialises several.
type Spool struct {
	dir         string
	maxBytes    int64
	segmentSize int64
	lock        *os.File
	wake        chan struct{} // asks the syncer for a round now
	stop        chan struct{}
	stopped     chan struct{}

	stateMu sync.Mutex // one writer of the state file

	readMu sync.Mutex
	place  place // where the last Read ended

	mu       sync.Mutex
	epoch    string
	segments []*segment // by base, the last one is written to
	active   *os.File
	retired  []*os.File // full segments that the syncer still has to sync and close
	next     uint64     // the next sequence number
	synced   uint64     // everything up to here is on stable storage
	commit   uint64
	bytes    int64
	totals   totals
	dirty    bool // state on disk is older than state here
	failed   error
	closed   bool
	changed  chan struct{} // closed and replaced when synced, failed or closed change
}

// Open opens the spool in dir, making it when it is not there. A second opener
// gets an error that names the process holding it. Open repairs what a crash
// left: it cuts a torn end off and counts damaged records; see Accounts.
func Open(dir string, o Options) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	s := newSpool(dir, o)
	s.lock = lock
	if err := s.recover(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	every := o.SyncEvery
	if every <= 0 {
		every = time.Second
	}
	go s.syncLoop(every)
	return s, nil
}

func newSpool(dir string, o Options) *Spool {
	limit := o.MaxBytes
	if limit == 0 {
		limit = defaultMaxBytes
	}
	limit = max(limit, minMaxBytes)
	return &Spool{
		dir: dir, maxBytes: limit, segmentSize: min(limit/8, maxSegmentBytes),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		changed: make(chan struct{}), totals: newTotals(),
	}
}

// Epoch names this life of the spool; it goes with every batch and every
// acknowledgement.
func (s *Spool) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Committed is the highest sequence number given to Commit, also before a
// restart (or somewhat less, after a crash).
func (s *Spool) Committed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit
}

// Append stores one record and returns its sequence number. body is JSON of at
// most MaxBody bytes; key is what the store keeps one row per.
//
// Incidents and reports are on stable storage when Append returns; events
// follow within Options.SyncEvery. An event or report beyond the bound or on a
// full disk is dropped, counted and answered with ErrFull. An incident is never
// dropped: on a full disk Append waits and tries again until ctx ends, and only
// then counts it as dropped. When ctx ends after the record was written, Append
// returns its number together with ctx's error.
func (s *Spool) Append(ctx context.Context, kind api.RecordKind, key string, at time.Time, body []byte) (uint64, error) {
	frame, err := encode(kind, key, at, body)
	if err != nil {
		return 0, err
	}
	seq, err := s.write(kind, frame)
	for wait := retryFull; errors.Is(err, syscall.ENOSPC) && kind == api.RecordIncident; wait = min(2*wait, retryFullMost) {
		select {
		case <-ctx.Done():
			s.drop(kind)
			return 0, fmt.Errorf("spool %s: incident %q not stored, gave up waiting for space: %w", s.dir, key, err)
		case <-s.stop:
			return 0, ErrClosed
		case <-time.After(wait):
		}
		seq, err = s.write(kind, frame)
	}
	if errors.Is(err, syscall.ENOSPC) {
		s.drop(kind)
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return 0, fmt.Errorf("spool %s: %s %q not stored: %w", s.dir, kind, key, err)
	}
	if kind == api.RecordEvent {
		return seq, nil
	}
	return seq, s.waitSynced(ctx, seq)
}

// encode checks a record and lays it out, without its sequence number.
func encode(kind api.RecordKind, key string, at time.Time, body []byte) ([]byte, error) {
	switch {
	case classOf(kind) == 0:
		return nil, fmt.Errorf("%w: kind %q is none of incident, event, report", ErrInvalid, kind)
	case key == "" || len(key) > MaxKey:
		return nil, fmt.Errorf("%w: key of %d bytes, want 1 to %d", ErrInvalid, len(key), MaxKey)
	case len(body) > MaxBody:
		return nil, fmt.Errorf("%w: %s %q has %d bytes, the most is %d", ErrInvalid, kind, key, len(body), MaxBody)
	case !json.Valid(body):
		return nil, fmt.Errorf("%w: body of %s %q is not JSON", ErrInvalid, kind, key)
	}
	return newFrame(kind, key, at, body), nil
}

// write gives frame its number and puts it at the end of the active segment. A
// part that was written before an error is cut off again.
func (s *Spool) write(kind api.RecordKind, frame []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	if s.bytes+int64(len(frame)) > s.bound(kind) {
		s.totals.Dropped[kind]++
		s.dirty = true
		return 0, fmt.Errorf("%w: %d of %d bytes wait for the server", ErrFull, s.bytes, s.maxBytes)
	}
	if last := s.last(); last.size > 0 && last.size+int64(len(frame)) > s.segmentSize {
		if err := s.rotate(); err != nil {
			return 0, err
		}
	}
	last := s.last()
	number(frame, s.next)
	if n, err := s.active.WriteAt(frame, last.size); err != nil {
		if n > 0 && s.active.Truncate(last.size) != nil {
			s.fail(fmt.Errorf("cannot cut off a half-written record: %w", err))
		}
		return 0, err
	}
	last.size += int64(len(frame))
	last.good[kind]++
	s.bytes += int64(len(frame))
	s.next++
	return s.next - 1, nil
}

// bound is how far records of a kind may fill the spool. Callers hold mu.
func (s *Spool) bound(kind api.RecordKind) int64 {
	switch kind {
	case api.RecordIncident:
		return 1<<63 - 1
	case api.RecordEvent:
		return s.maxBytes / 5 * 4
	default:
		return s.maxBytes
	}
}

func (s *Spool) drop(kind api.RecordKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Dropped[kind]++
	s.dirty = true
}

// usable says why nothing can be stored any more. Callers hold mu.
func (s *Spool) usable() error {
	if s.closed {
		return ErrClosed
	}
	return s.failed
}

// fail makes the spool refuse all further work. Callers hold mu.
func (s *Spool) fail(err error) {
	if s.failed == nil {
		s.failed = fmt.Errorf("%w (restart to recover what is on disk)", err)
		s.announce()
	}
}

// announce wakes everyone who waits for a change. Callers hold mu.
func (s *Spool) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Spool) last() *segment { return s.segments[len(s.segments)-1] }

// Close syncs what was appended and lets go of the folder. Waiting calls return
// ErrClosed. It may be called more than once.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.stopped
		return nil
	}
	s.closed = true
	s.announce()
	s.mu.Unlock()
	close(s.stop)
	<-s.stopped
	err := s.syncRound()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.active.Close(), s.lock.Close())
}
