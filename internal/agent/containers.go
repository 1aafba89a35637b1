package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/workload"
)

// assigner puts a container's policy into the kernel; enforce implements it.
type assigner interface {
	Assign(containerID string, run policy.Run) error
	Forget(containerID string) error
}

// describer tells what a container is; engines and bundles implement it.
type describer interface {
	Describe(ctx context.Context, id string) (workload.Found, error)
}

// containers knows every container of the host and which policy the kernel
// holds for it. Safe for concurrent use.
type containers struct {
	promoted *promotions
	kernel   assigner
	describe describer
	policies *policies
	host     string
	observe  bool // stop nothing: everything is only recorded
	// changed is told of a container that is known better now, or falls under
	// other policies.
	changed func(id string)

	mu     sync.Mutex
	byID   map[string]*guarded
	gated  bool // the gate spoke to this agent: it sees every build and start
	builds builds
}

// guarded is one container.
type guarded struct {
	found   workload.Found
	known   bool // found was answered by an engine or a bundle
	gate    bool // the gate allowed its start
	running bool
	adopted bool // it was there before this agent
	cgroup  uint64
	run     policy.Run
	audit   bool   // every policy that applies is in audit mode
	why     string // why the kernel does not hold its policy
	verdict *event.Verdict
}

func newContainers(kernel assigner, describe describer, pol *policies, promoted *promotions, host string, observe bool, changed func(id string)) *containers {
	return &containers{changed: changed, promoted: promoted, kernel: kernel, describe: describe, policies: pol, host: host, observe: observe, byID: map[string]*guarded{}}
}

// announce takes note of a container that is about to start, as the gate or
// the engine's event stream tells, and puts its policy into the kernel before
// its cgroup exists. byGate: the gate judged and allowed it.
func (c *containers) announce(ctx context.Context, id string, byGate bool) error {
	c.mu.Lock()
	g := c.entry(id)
	g.gate = g.gate || byGate
	c.gated = c.gated || byGate
	known := g.known
	c.mu.Unlock()
	if known && !byGate {
		return c.assign(id)
	}
	return c.resolve(ctx, id)
}

// allowed takes note of a container that the gate judged, allowed and described,
// and puts its policy into the kernel.
func (c *containers) allowed(found workload.Found) error {
	id := found.Container.ID
	c.mu.Lock()
	g := c.entry(id)
	g.gate, c.gated = true, true
	c.learn(g, found)
	c.mu.Unlock()
	return c.assign(id)
}

// learn keeps what an engine or a bundle says of a container. c.mu is held.
func (c *containers) learn(g *guarded, found workload.Found) {
	found.Container.Build = c.isStep(found, g)
	if found.Container.Started.IsZero() {
		found.Container.Started = g.found.Container.Started
	}
	g.found, g.known = found, true
}

// mark takes note, at once, that a container's cgroup exists. adopted: it was
// there before this agent.
func (c *containers) mark(id string, cgroup uint64, adopted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.entry(id)
	g.running = true
	g.adopted = g.adopted || adopted
	if cgroup != 0 {
		g.cgroup = cgroup
	}
}

// appeared finds out what a marked container is and puts its policy into the
// kernel, unless that was done when it was announced.
func (c *containers) appeared(ctx context.Context, id string) error {
	c.mu.Lock()
	g := c.byID[id]
	done := g == nil || g.known && !g.adopted // nil: gone again already
	c.mu.Unlock()
	if done {
		return nil
	}
	return c.resolve(ctx, id)
}

// stopped takes note that a container's cgroup is gone. What no engine answers
// for is to be forgotten (see forget); what an engine has may be started again.
func (c *containers) stopped(id string) (forget bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	if g == nil {
		return false
	}
	g.running, g.adopted, g.gate, g.verdict = false, false, false, nil
	if g.found.Inspection != nil {
		return false
	}
	delete(c.byID, id)
	return true
}

// forget takes a stopped container's policy out of the kernel, unless it came
// back meanwhile.
func (c *containers) forget(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[id] != nil {
		return nil
	}
	return c.kernel.Forget(id)
}

// removed forgets a container.
func (c *containers) removed(id string) error {
	c.mu.Lock()
	delete(c.byID, id)
	c.mu.Unlock()
	return c.kernel.Forget(id)
}

// heard takes what a gate says about its builds.
func (c *containers) heard(note api.GateNote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gated = c.gated || note.Builds > 0
	c.builds.set(note, time.Now())
}

// isStep: the engine's builder made this container. It is recognised by its
// looks, which whoever may ask the engine for a container can imitate; so what
// the gate saw asked for is none, and where there is a gate, neither is
// anything while no build runs. c.mu is held.
func (c *containers) isStep(found workload.Found, g *guarded) bool {
	return found.Container.Build && !g.gate && (!c.gated || c.builds.running(time.Now()) > 0)
}

// entry returns the container's entry, made when absent. c.mu is held.
func (c *containers) entry(id string) *guarded {
	g := c.byID[id]
	if g == nil {
		g = &guarded{found: workload.Found{Container: event.Container{ID: id}}}
		c.byID[id] = g
	}
	return g
}

// resolve asks what the container is and assigns its policy.
func (c *containers) resolve(ctx context.Context, id string) error {
	found, err := c.describe.Describe(ctx, id)
	c.mu.Lock()
	g := c.byID[id]
	if g == nil { // gone while its engine was asked
		c.mu.Unlock()
		return nil
	}
	if err == nil {
		c.learn(g, found)
	}
	c.mu.Unlock()
	if err != nil && !errors.Is(err, workload.ErrUnknown) {
		err = fmt.Errorf("container %s: its engine does not describe it: %w", short(id), err)
	}
	return errors.Join(err, c.assign(id))
}

// assign computes the container's run section and puts it into the kernel.
func (c *containers) assign(id string) error {
	set := c.policies.Set()
	c.mu.Lock()
	g := c.byID[id]
	if g == nil {
		c.mu.Unlock()
		return nil
	}
	run := c.runFor(set, g)
	c.mu.Unlock()
	err := c.kernel.Assign(id, run)
	defer c.changed(id) // when c.mu is free again
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.byID[id]; g != nil {
		if err != nil {
			g.why = err.Error()
			return fmt.Errorf("container %s: its policy is not in the kernel: %w", short(id), err)
		}
		g.run, g.why = run, ""
	}
	return nil
}

// runFor is the run section for a container. Build steps have a scope of their
// own: they write and run new programs by nature, so only what is malicious
// anywhere is stopped in them.
func (c *containers) runFor(set *policy.Set, g *guarded) policy.Run {
	if g.found.Container.Build {
		return c.soften(c.promoted.into(policy.Run{Generation: set.Generation()}))
	}
	run := set.Run(time.Now(), c.subject(g.found.Container))
	g.audit = run.Audit
	return c.soften(c.promoted.into(run))
}

// soften turns every effect into a record when this agent only observes.
func (c *containers) soften(run policy.Run) policy.Run {
	if c.observe {
		run.Observe, run.Audit = true, true
		run.Drift.Audit, run.Fileless.Audit, run.Exec.Audit, run.Network.Audit, run.Resources.Audit = true, true, true, true, true
	}
	return run
}

func (c *containers) subject(container event.Container) policy.Subject {
	_, stage, _ := c.policies.state()
	return policy.Subject{Image: container.Image, Stage: stage, Host: c.host, Container: container}
}

// defaultRun is what the kernel holds for containers that nobody announced:
// the policies whose scope does not depend on what the container is.
func (c *containers) defaultRun() policy.Run {
	return c.soften(c.promoted.into(c.policies.Set().Run(time.Now(), c.subject(event.Container{}))))
}

// reassign puts the set in force into the kernel for every container.
func (c *containers) reassign() error {
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.byID))
	c.mu.Unlock()
	var failed []error
	for _, id := range ids {
		failed = append(failed, c.assign(id))
	}
	return errors.Join(failed...)
}

// find returns what is known of a container, asking its engine when nothing is.
func (c *containers) find(ctx context.Context, id string) (event.Container, policy.Run) {
	c.mu.Lock()
	g, known := c.byID[id], false
	if g != nil {
		known = g.known
	}
	c.mu.Unlock()
	switch {
	case g == nil: // it is gone already, or its cgroup is told of after its act
		if found, err := c.describe.Describe(ctx, id); err == nil {
			_, run := c.peek(id)
			return found.Container, run
		}
	case !known:
		_ = c.resolve(ctx, id) // what stays unknown is shown by its id
	}
	return c.peek(id)
}

// setVerdict keeps what policy says about a running container.
func (c *containers) setVerdict(id string, v event.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.byID[id]; g != nil {
		g.verdict = &v
	}
}

// status lists every running container with the policy the kernel holds.
func (c *containers) status() []event.Guarded {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []event.Guarded
	for _, id := range slices.Sorted(maps.Keys(c.byID)) {
		g := c.byID[id]
		if !g.running {
			continue
		}
		s := event.Guarded{Container: g.found.Container, Generation: g.run.Generation, Policies: g.run.Policies, Verdict: g.verdict}
		s.Mode, s.Why = mode(g, c.observe)
		out = append(out, s)
	}
	return out
}

// mode says in the console's words how far a container is guarded.
func mode(g *guarded, observe bool) (word, why string) {
	c := g.found.Container
	switch {
	case g.why != "":
		return "not covered", g.why
	case observe:
		return "audit", "this agent was started to observe only"
	case c.Build:
		return "enforce", "image build: programs that the build makes may run in it"
	case g.run.Audit || g.audit:
		return "audit", "every policy that applies is in audit mode"
	case len(g.run.Policies) == 0:
		return "enforce", "no policy applies; behaviours that are always malicious are stopped"
	case c.Privileged || c.HostPID || slices.Contains(c.Capabilities, "SYS_ADMIN") || slices.Contains(c.Capabilities, "BPF") || slices.Contains(c.Capabilities, "ALL"):
		return "enforce", "the container holds rights with which it could undo what this host enforces without BPF LSM"
	default:
		return "enforce", ""
	}
}

func short(id string) string { return id[:min(12, len(id))] }
