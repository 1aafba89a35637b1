package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/spool"
)

// gateDesk is what this agent does for the gate.
func (a *Agent) gateDesk() gateDesk {
	return gateDesk{
		scan: func(ctx context.Context, req api.ScanRequest) (*report.Report, error) {
			return a.images.report(ctx, req.Engine, req.Digest, req.Name)
		},
		note: a.noteGate,
		start: func(ctx context.Context, note api.StartNote) error {
			if note.Container.ID == "" {
				return errors.New("start note without a container id")
			}
			id := note.Container.ID
			a.later(ctx, func(context.Context) { a.problem("judged containers", a.settled.add(map[string]uint64{id: 0})) })
			if found, ok := a.engines.handedOver(note); ok {
				return a.containers.allowed(found)
			}
			return ignoreUnknown(a.containers.announce(ctx, id, true))
		},
		gate: a.heardGate,
	}
}

// heardGate takes what a gate says about itself.
func (a *Agent) heardGate(note api.GateNote) {
	a.containers.heard(note)
	var err error
	if note.Dropped > 0 {
		err = fmt.Errorf("%d decisions of the gate of %s were dropped, because more waited for the agent than the gate keeps", note.Dropped, note.Engine)
	}
	a.problem("gate", err)
}

// noteGate records what the gate decided. A refusal is an incident: somebody
// tried to start what may not run.
func (a *Agent) noteGate(ctx context.Context, ev event.Event) error {
	if ev.Gate == nil || ev.Key == "" {
		return errors.New("gate event without verdict or key")
	}
	ev.Host = a.opts.Host
	if !ev.Gate.Verdict.Allowed {
		if err := a.record(ctx, gateIncident(ev)); err != nil {
			return err
		}
	}
	err := a.publish(ctx, api.RecordEvent, ev.Key, ev.Time, ev)
	if errors.Is(err, spool.ErrFull) { // counted there; the gate's next note must not wait for it
		a.problem("spool", err)
		return nil
	}
	return err
}

func gateIncident(ev event.Event) event.Incident {
	name, image := "a container", ""
	if c := ev.Container; c != nil {
		if c.Name != "" {
			name = "container `" + c.Name + "`"
		}
		if n := c.Image.Name(); n != "" {
			image = " from image `" + n + "`"
		}
	}
	var why []string
	for _, v := range ev.Gate.Verdict.Violations {
		// Several policies may say the same; each stands in the verdict.
		if message := strings.TrimSuffix(v.Message, "."); !v.Audit && !slices.Contains(why, message) {
			why = append(why, message)
		}
	}
	if len(why) == 0 { // it could not be judged, and the gate fails closed
		why = append(why, ev.Gate.Verdict.Incomplete...)
	}
	decision := event.Decision{
		Control: event.ControlStart, Effect: event.EffectBlock, Outcome: event.Prevented,
		Why: strings.Join(why, "; "), Generation: ev.Gate.Verdict.Generation, Mechanism: "gate",
	}
	for _, v := range ev.Gate.Verdict.Violations {
		if !v.Audit {
			decision.Policy, decision.Rule = v.Policy, v.Rule
			break
		}
	}
	return event.Incident{
		Key: "gate/" + ev.Key, Time: ev.Time, Severity: event.SeverityMedium,
		Title:     "Request to the engine refused",
		Sentence:  fmt.Sprintf("The gate refused to %s %s%s: %s.", ev.Gate.Action, name, image, decision.Why),
		Decision:  decision,
		Container: ev.Container,
		Event:     ev,
	}
}

// The agent is ready when it has a policy from its server, or when that did not
// answer for firstPolicy. Retries begin quickly, for a server that starts at the
// same moment.
const (
	firstPolicy = 5 * time.Second
	retryFirst  = 50 * time.Millisecond
	retryMost   = time.Minute
	policyEvery = 3 * time.Minute
)

// keepPolicy fetches the policy bundle at start, whenever the server says that
// there is a newer one, and every few minutes in case that was not heard.
func (a *Agent) keepPolicy(ctx context.Context) error {
	var once sync.Once
	fetched := func() { once.Do(func() { close(a.fetched) }) }
	patience := time.AfterFunc(firstPolicy, fetched)
	defer patience.Stop()
	retry := retryFirst
	for {
		wait := policyEvery
		if err := a.fetchPolicy(ctx); err == nil {
			retry = retryFirst
			fetched()
		} else if ctx.Err() == nil {
			if retry >= time.Second { // not the first moments of a server that starts too
				a.problem("policy", err)
			}
			wait, retry = retry, min(2*retry, retryMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.opts.Uplink.PolicyChanges():
		case <-time.After(wait):
		}
	}
}

func (a *Agent) fetchPolicy(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	signed, err := a.opts.Uplink.Policy(within)
	if err != nil {
		return fmt.Errorf("policy from the server: %w; going on with the last good one", err)
	}
	err = a.policies.accept(signed, time.Now())
	if errors.Is(err, errOld) {
		a.problem("policy", nil)
		return nil
	}
	if err != nil {
		return err
	}
	return a.applyPolicy(ctx)
}

// applyRuns puts what holds for each container into the kernel.
func (a *Agent) applyRuns() error {
	defer a.opts.Sensor.Reconsider("")
	return errors.Join(a.opts.Kernel.SetDefault(a.containers.defaultRun()), a.containers.reassign())
}

// applyPolicy puts the set in force into the kernel and judges again what is
// known: containers are re-judged for the console, never stopped by a change
// of policy.
func (a *Agent) applyPolicy(ctx context.Context) error {
	promoted, err := a.promotions.set(a.policies.promotions(), a.indicators, time.Now())
	a.problem("promotions", err)
	a.problem("VEX documents", a.policies.unreadable())
	if promoted {
		a.indicators.tellAgain()
	}
	err = a.applyRuns()
	a.problem("policy", err)
	a.later(ctx, func(ctx context.Context) {
		a.problem("reports", a.images.rejudge(ctx, func(context.Context, *report.Report) error { return nil }))
		a.judgeAgain(ctx)
		a.looking.soon(false)
	})
	generation, _, _ := a.policies.state()
	a.opts.Log.Info("policy in force", "generation", generation)
	a.heartbeatNow()
	return err
}
