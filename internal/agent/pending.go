package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/spool"
)

// pending keeps incidents on disk from the moment they are seen until they are
// finished (named, answered, in the spool for the server), so that a killed
// agent finishes them when it comes back. Safe for concurrent use.
type pending struct {
	spool *spool.Spool

	mu   sync.Mutex
	next uint64          // lowest number that is not finished
	done map[uint64]bool // finished ones above it
}

// pendingWithin is how long the sensor waits for the disk; after it the
// incident is kept in memory alone.
const pendingWithin = 200 * time.Millisecond

func openPending(dir string) (*pending, error) {
	s, err := spool.Open(filepath.Join(dir, "seen"), spool.Options{})
	if err != nil {
		return nil, err
	}
	return &pending{spool: s, next: s.Committed() + 1, done: map[uint64]bool{}}, nil
}

// seen is an incident that is not finished; number 0 is not on disk.
type seen struct {
	number   uint64
	incident event.Incident
}

// left are the incidents that an earlier agent did not finish.
func (p *pending) left(ctx context.Context) ([]seen, error) {
	var all []seen
	last := p.spool.Committed()
	for end := last + p.spool.Accounts().Waiting; last < end; {
		within, cancel := context.WithTimeout(ctx, time.Second)
		records, err := p.spool.Read(within, last, 256, 8<<20)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			last = end // the rest cannot be read
			break
		}
		if err != nil {
			return all, fmt.Errorf("unfinished incidents: %w", err)
		}
		for _, r := range records {
			last = r.Sequence
			var inc event.Incident
			if json.Unmarshal(r.Body, &inc) == nil { // one of another version is let go
				all = append(all, seen{r.Sequence, inc})
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := p.next; n <= last; n++ {
		p.done[n] = true // damaged ones too
	}
	for _, s := range all {
		delete(p.done, s.number)
	}
	return all, nil
}

// add writes an incident down before anything is done about it.
func (p *pending) add(ctx context.Context, inc event.Incident) (seen, error) {
	s := seen{incident: inc}
	raw, err := json.Marshal(inc)
	if err != nil {
		return s, fmt.Errorf("incident %s: %w", inc.Key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pendingWithin)
	defer cancel()
	s.number, err = p.spool.Append(ctx, api.RecordIncident, inc.Key, inc.Time, raw)
	return s, err
}

// finish says that an incident is in the spool for the server.
func (p *pending) finish(s seen) error {
	if s.number == 0 {
		return nil
	}
	p.mu.Lock()
	p.done[s.number] = true
	for p.done[p.next] {
		delete(p.done, p.next)
		p.next++
	}
	low := p.next - 1
	p.mu.Unlock()
	return p.spool.Commit(low)
}

func (p *pending) close() error { return p.spool.Close() }
