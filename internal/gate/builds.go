package gate

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// builds counts the image builds that were let through and have not ended, and
// tells the agent: a build's steps may run what they make. The supervisor has
// them, so that a worker that dies in the middle of a build loses none; a gate
// that dies as a whole is noticed by the agent, which hears it no more. Safe for
// concurrent use.
type builds struct {
	agent   *agentLink
	log     *slog.Logger
	dropped func(context.Context) uint64

	mu   sync.Mutex // held while the agent is told: it must hear counts in order
	note api.GateNote
}

func newBuilds(o Options, dropped func(context.Context) uint64) *builds {
	return &builds{
		agent: newAgentLink(o.Data), log: o.Log, dropped: dropped,
		note: api.GateNote{Gate: rand.Text(), Engine: o.Engine},
	}
}

// add counts builds that begin or ended, and returns when the agent knows.
func (b *builds) add(ctx context.Context, delta int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.note.Builds
	// An end without a beginning belongs to a build of an earlier gate.
	if b.note.Builds = max(0, before+delta); b.note.Builds == before {
		return
	}
	if err := b.agent.gate(context.WithoutCancel(ctx), b.note); err != nil {
		// Without the agent the default policy in the kernel holds, and it is
		// told again.
		b.log.Warn("the agent was not told of a build", "builds", b.note.Builds, "error", err)
	}
}

// repeat tells the agent again what it must not forget, until ctx ends.
func (b *builds) repeat(ctx context.Context) error {
	tick := time.NewTicker(api.GateNoteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		dropped := b.dropped(ctx)
		b.mu.Lock()
		b.note.Dropped = dropped
		if b.note.Builds > 0 || dropped > 0 {
			// An agent that is away shows in the notes that wait for it.
			_ = b.agent.gate(ctx, b.note)
		}
		b.mu.Unlock()
	}
}
