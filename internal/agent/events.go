package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/evidence"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/workload"
)

// handle takes one event from the sensor, and says whether nothing came of it
// nor would if it happened again. It runs on the sensor's goroutine and does
// nothing slow there.
func (a *Agent) handle(ctx context.Context, ev event.Event) (nothing bool) {
	ev.Host = a.opts.Host
	if ev.Container == nil {
		a.remember(ev)
	}
	if ev.Container == nil && ev.Decision == nil {
		a.emit(ctx, ev)
		return false
	}
	if ev.Container == nil { // the host's own, which the default policy is for
		_, run := a.containers.peek("")
		a.tell(ctx, ev, a.detector.Event(ev, run, a.tree(ev)), a.tree(ev))
		return false
	}
	id := ev.Container.ID
	if ev.Kind == event.KindContainer {
		a.remember(ev)
		a.handleContainer(ctx, ev)
		return false
	}
	if id != "" && id == a.opts.Own {
		return true // what this agent does itself would be told as an attack
	}
	container, run := a.containers.peek(id)
	ev.Container = mergeContainer(*ev.Container, container)
	a.remember(ev)
	var tree []event.Process
	if ev.Decision != nil { // who ran it belongs into the sentence
		tree = a.tree(ev)
	}
	incidents, matched := a.detector.Judge(ev, run, tree)
	more, also := alerts(a.brought.Load(), a.opts.Rules, ev, a.promotions.run(time.Now()))
	incidents = append(incidents, more...)
	contact, ok := a.indicators.contact(ev)
	if ev.Kind == event.KindDNS {
		contact, ok = a.indicators.question(ev, a.promotions)
	}
	if isPromoted(ev) { // told as what it is, not as a connection outside policy
		incidents = slices.DeleteFunc(incidents, func(inc event.Incident) bool { return inc.Detection == "" })
	}
	if ok {
		incidents = append(incidents, contact)
	}
	a.tell(ctx, ev, incidents, tree)
	return !matched && !also && len(incidents) == 0
}

// tell sends incidents on their way, with the tree of their process.
func (a *Agent) tell(ctx context.Context, ev event.Event, incidents []event.Incident, tree []event.Process) {
	if len(incidents) == 0 {
		return
	}
	if tree == nil {
		tree = a.tree(ev)
	}
	for _, inc := range incidents {
		inc.Tree = tree
		if a.excepted.has(inc.Detection, inc.Decision, inc.Event) {
			continue // of detections that are not the detector's
		}
		if !a.stories.Join(&inc) {
			continue // counted by the story that told many alike
		}
		s, err := a.pending.add(ctx, inc)
		a.problem("unfinished", err)
		a.later(ctx, func(ctx context.Context) { a.finish(ctx, s) })
	}
}

// finish names the incident's container, carries out its response and hands it
// to the recorder.
func (a *Agent) finish(ctx context.Context, s seen) {
	inc := s.incident
	if inc.Container != nil && inc.Container.Name == "" {
		id := inc.Container.ID
		within, cancel := context.WithTimeout(ctx, 2*time.Second)
		container, _ := a.containers.find(within, id)
		cancel()
		inc.Container = mergeContainer(*inc.Container, container)
		inc.Event.Container = inc.Container
		if a.excepted.has(inc.Detection, inc.Decision, inc.Event) {
			a.problem("unfinished", a.pending.finish(s)) // only now it is known what it is
			return
		}
		if inc.Container.Name != "" { // it had only its id when the sentence was made
			inc.Sentence = strings.ReplaceAll(inc.Sentence, "`"+short(id)+"`", "`"+inc.Container.Name+"`")
		}
	}
	if a.opts.Observe {
		inc.Decision.Audit = true
	}
	a.look(ctx, inc)
	a.carryOut(ctx, &inc)
	a.stories.Finish(&inc)
	if evidence.Wants(inc) {
		a.keepLater(func(context.Context) error { return a.evidence.Note(inc) })
	}
	a.problem("stories", a.stories.Err())
	a.deliver(ctx, seen{s.number, inc})
}

// deliver hands a finished incident to the recorder.
func (a *Agent) deliver(ctx context.Context, s seen) {
	select {
	case a.incidents <- s:
	case <-ctx.Done():
	}
}

func (a *Agent) tree(ev event.Event) []event.Process {
	if ev.Process == nil {
		return nil
	}
	tree := a.opts.Sensor.Tree(ev.Process.ID)
	if len(tree) == 0 {
		return []event.Process{*ev.Process}
	}
	return tree
}

// handleContainer follows a cgroup that appeared or went away.
func (a *Agent) handleContainer(ctx context.Context, ev event.Event) {
	id := ev.Container.ID
	if ev.Notice != nil && ev.Notice.Code == event.NoticeGone {
		if a.containers.stopped(id) {
			a.later(ctx, func(context.Context) { a.problem("container "+short(id), a.containers.forget(id)) })
		}
		a.later(ctx, func(context.Context) { a.problem("judged containers", a.settled.remove(id, ev.Container.CgroupID)) })
		a.problem("judge "+short(id), nil)
		a.emit(ctx, ev)
		return
	}
	a.containers.mark(id, ev.Container.CgroupID, false)
	a.later(ctx, func(ctx context.Context) {
		a.problem("container "+short(id), ignoreUnknown(a.containers.appeared(ctx, id)))
		container, _ := a.containers.peek(id)
		ev.Container = mergeContainer(*ev.Container, container)
		a.emit(ctx, ev)
		a.unjudged.add(id)
	})
}

// emit records an event that is no incident by itself.
func (a *Agent) emit(ctx context.Context, ev event.Event) {
	a.problem("spool", a.publish(ctx, api.RecordEvent, ev.Key, ev.Time, ev))
}

// watchEngine follows one engine's announcements, and reconnects for as long
// as the agent lives: engines stop and start.
func (a *Agent) watchEngine(ctx context.Context, d *workload.Docker) error {
	wait := time.Second
	for ctx.Err() == nil {
		err := d.Watch(ctx, func() { a.later(ctx, func(ctx context.Context) { a.catchUp(ctx, d) }) }, func(c workload.Change) {
			wait = time.Second
			a.engineChange(ctx, d, c)
		})
		if ctx.Err() != nil {
			return nil
		}
		a.problem("engine "+d.Socket(), err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, 30*time.Second)
	}
	return nil
}

// engineChange: "created" comes before the cgroup exists, so the container's
// policy is in the kernel before its first program; inspecting is quick and
// must be done before the start, so it does not queue behind scans.
func (a *Agent) engineChange(ctx context.Context, d *workload.Docker, c workload.Change) {
	switch c.Phase {
	case workload.PhaseStarted:
		if a.opts.Unguarded != "" {
			a.engineStarted(ctx, c.ID, c.At.Before(a.started))
		} else if c.ID != a.opts.Own {
			a.later(ctx, func(ctx context.Context) { a.confirm(ctx, d, c.ID) })
		}
	case workload.PhaseEnded:
		if a.opts.Unguarded != "" {
			a.containers.stopped(c.ID)
		}
	case workload.PhaseCreated:
		a.problem("container "+short(c.ID), ignoreUnknown(a.containers.announce(ctx, c.ID, false)))
	case workload.PhaseRemoved:
		a.problem("container "+short(c.ID), a.containers.removed(c.ID))
		a.problem("judge "+short(c.ID), nil)
		a.problem("unseen "+short(c.ID), nil)
	}
}

// catchUp finds containers that an engine started while its event stream was
// away; the kernel told of them, but the engine could not be asked then.
func (a *Agent) catchUp(ctx context.Context, d *workload.Docker) {
	ids, err := d.Running(ctx)
	a.problem("containers of "+d.Socket(), err)
	if err != nil {
		return // the next connection catches up
	}
	a.problem("engine "+d.Socket(), nil) // it answers again
	a.problem("engine sockets", a.opts.Kernel.SetEngineSockets(a.opts.Sockets))
	root, err := d.Root(ctx)
	if a.problem("storage of "+d.Socket(), err); err == nil {
		a.engines.addStorage(root)
		a.problem("storage", a.opts.Kernel.SetStorage(a.engines.storage()))
	}
	for _, id := range ids {
		if a.opts.Unguarded != "" && !a.containers.isRunning(id) {
			a.engineStarted(ctx, id, true)
		} else if !a.containers.isKnown(id) {
			a.containers.mark(id, 0, false)
			a.problem("container "+short(id), ignoreUnknown(a.containers.appeared(ctx, id)))
		}
		if a.opts.Unguarded == "" && id != a.opts.Own {
			a.confirm(ctx, d, id)
		}
	}
	a.problem("removed containers", a.prune(ctx))
}

// prune forgets containers that were removed while nobody told this agent. An
// engine that is away may have any of them.
func (a *Agent) prune(ctx context.Context) error {
	// Asked in this order: what is made meanwhile is not among the assigned.
	assigned, err := a.opts.Kernel.Assigned()
	if err != nil {
		return err
	}
	exists := map[string]bool{}
	for _, d := range a.engines.docker {
		ids, err := d.All(ctx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			exists[id] = true
		}
	}
	running, err := a.opts.Kernel.Containers()
	for _, g := range running {
		exists[g.ID] = true
	}
	for _, id := range assigned {
		if err == nil && !exists[id] {
			err = a.containers.removed(id)
			a.problem("container "+short(id), nil)
		}
	}
	return err
}

// peek returns what is known of a container now, without asking anybody.
func (c *containers) peek(id string) (event.Container, policy.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	if g == nil {
		return event.Container{ID: id}, c.defaultRun()
	}
	return g.found.Container, g.run
}

func (c *containers) isRunning(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	return g != nil && g.running
}

func (c *containers) isKnown(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	return g != nil && g.known
}

// mergeContainer adds what the engine knows to what the kernel knows.
func mergeContainer(kernel, engine event.Container) *event.Container {
	out := engine
	out.ID, out.CgroupID = kernel.ID, kernel.CgroupID
	if !kernel.Started.IsZero() {
		out.Started = kernel.Started
	}
	return &out
}

func ignoreUnknown(err error) error {
	if errors.Is(err, workload.ErrUnknown) {
		return nil
	}
	return err
}
