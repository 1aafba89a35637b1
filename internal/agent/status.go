package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// beat is how often the agent tells the server how its host is. The console
// calls an agent silent after three missed beats.
const beat = 10 * time.Second

// heartbeat reports the host's state until ctx ends.
func (a *Agent) heartbeat(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	last, missed := time.Now(), false
	for {
		if a.opts.Uplink != nil {
			within, cancel := context.WithTimeout(ctx, 5*time.Second)
			said, err := a.opts.Uplink.Status(within, a.Status())
			cancel()
			if err == nil {
				a.offer(said.Intelligence)
			}
			if ctx.Err() == nil && (err == nil || missed) { // one miss is no news: both may just be starting
				a.problem("server", err)
			}
			missed = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.beatNow:
		case <-tick.C:
		}
		last = a.watchClock(ctx, last)
	}
}

// heartbeatNow asks for a report at once, because something changed.
func (a *Agent) heartbeatNow() {
	select {
	case a.beatNow <- struct{}{}:
	default:
	}
}

// watchClock notices a wall clock that went back: times in incidents and the
// ends of exceptions depend on it. The monotonic clock tells.
func (a *Agent) watchClock(ctx context.Context, last time.Time) time.Time {
	now := time.Now()
	elapsed := now.Sub(last)                // monotonic
	wall := now.Round(0).Sub(last.Round(0)) // as the clock on the wall says
	if back := elapsed - wall; back > 2*time.Second {
		a.emit(ctx, event.Event{
			Key: "clock/" + a.opts.Host + "/" + now.UTC().Format(time.RFC3339Nano), Kind: event.KindAgent, Time: now.UTC(), Host: a.opts.Host,
			Notice: &event.Notice{Code: "clock_back", Message: "The host's clock went back by " + back.Round(time.Second).String() + "; times of events before and after overlap."},
		})
	}
	return now
}

// Probed replaces what this host was found to be able to do, and tells the
// server. It is safe for concurrent use.
func (a *Agent) Probed(d event.Doctor) {
	a.mu.Lock()
	a.opts.Doctor = d
	a.mu.Unlock()
	a.heartbeatNow()
}

// guarded lists the running containers with what the kernel holds for each, as
// the kernel itself says: what it does not know is not covered, whatever this
// agent wanted.
func (a *Agent) guarded() ([]event.Guarded, error) {
	list := a.containers.status()
	known, err := a.opts.Kernel.Containers()
	if err != nil {
		return list, fmt.Errorf("containers in the kernel: %w", err)
	}
	held := map[string]uint64{}
	for _, g := range known {
		held[g.ID] = g.Generation
	}
	for i := range list {
		generation, ok := held[list[i].Container.ID]
		list[i].Generation = generation
		switch {
		case list[i].Container.ID == a.opts.Own:
			list[i].Mode, list[i].Why = "not covered", "this agent runs in it: it is neither judged nor guarded"
		case !ok && a.opts.Unguarded != "":
			list[i].Mode, list[i].Why = "not covered", "nothing is enforced in this host's kernel"
		case !ok:
			list[i].Mode, list[i].Why = "not covered", "the kernel part does not know its cgroup, or the agent was told to guard others only"
		}
	}
	return list, nil
}

// Status is the host as the agent sees it now.
func (a *Agent) Status() event.HostStatus {
	generation, _, expires := a.policies.state()
	st := event.HostStatus{
		Agent: a.opts.ID, Host: a.opts.Host, Version: a.opts.Version,
		Time: time.Now().UTC(), Started: a.started, Generation: generation,
	}
	st.Intelligence, st.IntelligenceBuilt = a.scanner.state()
	var err error
	st.Containers, err = a.guarded()
	a.problem("containers", err)
	st.Accounts, err = a.opts.Kernel.Accounts()
	a.problem("accounts", err)
	a.problem("journal", a.journal.Err())
	st.Kept = a.journal.Accounts()
	st.Excepted, err = a.excepted.counts()
	a.problem("exceptions", err)
	lost, err := a.lost()
	a.problem("lost", err)
	a.mu.Lock()
	st.Doctor = a.opts.Doctor
	for _, topic := range slices.Sorted(maps.Keys(a.problems)) {
		st.Problems = append(st.Problems, a.problems[topic])
	}
	a.mu.Unlock()
	st.Problems = append(st.Problems, lost...)
	if !expires.IsZero() && time.Now().After(expires) {
		st.Problems = append(st.Problems, "The policy bundle's time of acceptance is over ("+expires.Format(time.RFC3339)+"); it stays in force until the server sends a newer one.")
	}
	if a.opts.Unguarded != "" {
		st.Problems = append([]string{"Nothing is enforced or seen in this host's kernel: " + a.opts.Unguarded + ". Starts are judged by the gate, where one is installed, and by what the engine tells; images are scanned."}, st.Problems...)
	}
	if a.opts.Observe {
		st.Problems = append(st.Problems, "This agent was started to observe only: nothing that policy asks for is stopped.")
	}
	return st
}

// lost says what was not told, one sentence for each place where that happens.
func (a *Agent) lost() (sentences []string, err error) {
	untold, err := a.opts.Kernel.LostDecisions()
	if untold > 0 {
		sentences = append(sentences, fmt.Sprintf("%d decisions of the kernel were carried out and not told, because they came faster than they were read.", untold))
	}
	for _, k := range a.spool.Accounts().Kinds {
		if k.Dropped > 0 {
			sentences = append(sentences, fmt.Sprintf("%d records (%s) were dropped, because there was no room for more that the server had not taken.", k.Dropped, k.Kind))
		}
	}
	for _, k := range a.journal.Accounts() {
		if k.Dropped > 0 {
			sentences = append(sentences, fmt.Sprintf("%d %s events were not kept to look back at, because they came faster than they could be written, or the disk was full; they were judged.", k.Dropped, k.Kind))
		}
	}
	if a.opts.Uplink != nil {
		if n := a.opts.Uplink.Refused(); n > 0 {
			sentences = append(sentences, fmt.Sprintf("%d batches of records were refused by the server for good.", n))
		}
	}
	return sentences, err
}
