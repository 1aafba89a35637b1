package gate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/spool"
)

const (
	notesBound  = 16 << 20 // bytes of events kept for an agent that is away
	notesBatch  = 64
	notesRetry  = time.Second
	noteAnswers = 10 * time.Second // what the agent may take for one event
)

// notes is what the gate decided, on its way to the agent: on disk first, given
// over when the agent takes it. Events keep their key, so that one given twice
// is still one. Safe for concurrent use.
type notes struct {
	spool *spool.Spool
	agent *agentLink
	log   *slog.Logger
	host  string
	life  string // of this process, in the keys
	count atomic.Uint64
}

func openNotes(dir string, agent *agentLink, log *slog.Logger) (*notes, error) {
	s, err := spool.Open(filepath.Join(dir, "gate", "notes"), spool.Options{MaxBytes: notesBound})
	if err != nil {
		return nil, fmt.Errorf("the gate's notes: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // the agent knows it too
	}
	return &notes{spool: s, agent: agent, log: log, host: host, life: rand.Text()}, nil
}

// add writes one decision down.
func (n *notes) add(ctx context.Context, e event.Event) error {
	e.Key = fmt.Sprintf("gate-%s-%d", n.life, n.count.Add(1))
	e.Kind, e.Host = event.KindGate, n.host
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = n.spool.Append(ctx, api.RecordEvent, e.Key, e.Time, body)
	return err
}

// deliver gives notes to the agent until ctx ends.
func (n *notes) deliver(ctx context.Context) error {
	after := n.spool.Committed()
	for {
		records, err := n.spool.Read(ctx, after, notesBatch, 1<<20)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, r := range records {
			if !n.hand(ctx, r) {
				return nil
			}
			after = r.Sequence
			if err := n.spool.Commit(after); err != nil {
				return err
			}
		}
	}
}

// hand tries until the agent has taken the record, or will never take it;
// false when ctx ended first.
func (n *notes) hand(ctx context.Context, r api.Record) bool {
	for {
		try, cancel := context.WithTimeout(ctx, noteAnswers)
		err := n.agent.postRaw(try, "/v1/note", r.Body, nil)
		cancel()
		var no *rejected
		switch {
		case err == nil:
			return true
		case errors.As(err, &no) && no.status/100 == 4:
			n.log.Error("the agent does not take a note of the gate", "key", r.Key, "error", err)
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(notesRetry):
		}
	}
}

// waiting is how many notes the agent has not taken, and how many were dropped
// because too many waited.
func (n *notes) waiting() (count, dropped uint64) {
	a := n.spool.Accounts()
	return a.Waiting, a.Of(api.RecordEvent).Dropped
}

func (n *notes) close() error { return n.spool.Close() }
