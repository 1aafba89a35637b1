package agent

import (
	"context"

	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// Unguarded stands as Kernel and Sensor of a host whose kernel part cannot be
// loaded: it enforces nothing and sees nothing. What is left is what engines
// tell, the gate's questions and images.
type Unguarded struct{}

// Assign keeps nothing.
func (Unguarded) Assign(string, policy.Run) error { return nil }

// Reconsider has nothing to tell again.
func (Unguarded) Forget(string) error { return nil }

// SetDefault keeps nothing.
func (Unguarded) SetDefault(policy.Run) error { return nil }

// AdoptRunning finds none.
func (Unguarded) AdoptRunning() ([]string, error) { return nil, nil }

// Containers knows none.
func (Unguarded) Containers() ([]enforce.Guarded, error) { return nil, nil }

// Assigned knows none.
func (Unguarded) Assigned() ([]string, error) { return nil, nil }

// SetEngineSockets keeps nothing.
func (Unguarded) SetEngineSockets([]string) error { return nil }

// SetStorage keeps nothing.
func (Unguarded) SetStorage([]string) error { return nil }

// Watch watches nothing.
func (Unguarded) Watch(...string) error { return nil }

// Settle has nothing to end.
func (Unguarded) Settle() error { return nil }

// Accounts counted nothing.
func (Unguarded) Accounts() ([]event.Account, error) { return nil, nil }

// LostDecisions is 0: none was taken.
func (Unguarded) LostDecisions() (uint64, error) { return 0, nil }

// Run delivers nothing until ctx ends.
func (Unguarded) Run(ctx context.Context, _ func(event.Event) bool) error {
	<-ctx.Done()
	return nil
}

// Reconsider has nothing to tell again.
func (Unguarded) Reconsider(string) {}

// Tree knows no process.
func (Unguarded) Tree(string) []event.Process { return nil }

// engineStarted judges a container that the engine started, where no kernel
// tells of it. It runs already: a refused one is stopped then.
func (a *Agent) engineStarted(ctx context.Context, id string, before bool) {
	a.containers.mark(id, 0, before)
	a.later(ctx, func(ctx context.Context) {
		a.problem("container "+short(id), ignoreUnknown(a.containers.appeared(ctx, id)))
		a.unjudged.add(id)
	})
}
