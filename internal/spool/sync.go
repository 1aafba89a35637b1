package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// syncLoop is the one owner of fsync: everyone who appended meanwhile shares a
// round.
func (s *Spool) syncLoop(every time.Duration) {
	defer close(s.stopped)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		case <-ticker.C:
		}
		// The error is kept in s.failed, where Append and Read find it.
		_ = s.syncRound()
	}
}

// syncRound makes everything written so far durable, then the state when it
// changed.
func (s *Spool) syncRound() error {
	s.mu.Lock()
	upTo, retired, active := s.next-1, s.retired, s.active
	s.retired = nil
	pending := upTo > s.synced || len(retired) > 0
	dirty := s.dirty
	s.mu.Unlock()
	if pending {
		err := s.syncFiles(retired, active)
		s.mu.Lock()
		if err != nil {
			s.fail(fmt.Errorf("cannot reach stable storage: %w", err))
		} else if upTo > s.synced {
			s.synced = upTo
			s.announce()
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if dirty {
		// A full disk may keep the state from being written: the old one is
		// still right, only older, and the next round tries again.
		_ = s.saveState()
	}
	return nil
}

func (s *Spool) syncFiles(retired []*os.File, active *os.File) error {
	var err error
	for _, f := range retired {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	// The folder first learns of the new segment, else a crash could lose it.
	if len(retired) > 0 {
		err = errors.Join(err, durable.Sync(s.dir))
	}
	syncErr := active.Sync()
	if errors.Is(syncErr, os.ErrClosed) { // retired meanwhile by another round's rotation
		syncErr = nil
	}
	return errors.Join(err, syncErr)
}

// demandSync asks the syncer for a round without waiting for it.
func (s *Spool) demandSync() {
	select {
	case s.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// waitSynced returns when everything up to seq is on stable storage.
func (s *Spool) waitSynced(ctx context.Context, seq uint64) error {
	for {
		s.mu.Lock()
		done, err, changed := s.synced >= seq, s.failed, s.changed
		closed := s.closed
		s.mu.Unlock()
		switch {
		case done:
			return nil
		case err != nil:
			return fmt.Errorf("spool %s: %w", s.dir, err)
		case closed:
			<-s.stopped
			return s.afterClose(seq)
		}
		s.demandSync()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// afterClose answers for a record that was written while Close began: the last
// round of Close covers it.
func (s *Spool) afterClose(seq uint64) error {
	if err := s.syncRound(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced >= seq {
		return nil
	}
	return ErrClosed
}
