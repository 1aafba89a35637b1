package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// judge answers whether a running container may run at all: its image and the
// parameters it was started with. It scans the image when policy wants that.
func (a *Agent) judge(ctx context.Context, id string) (event.Verdict, error) {
	if id == a.opts.Own {
		return event.Verdict{Allowed: true}, nil
	}
	found, err := a.engines.Describe(ctx, id)
	if err != nil {
		return event.Verdict{}, err
	}
	if found.Container.Build && a.containers.isBuild(id) {
		return event.Verdict{Allowed: true}, nil
	}
	set := a.policies.Set()
	subject := a.containers.subject(found.Container)
	start, err := a.engines.startFacts(ctx, subject, found)
	if err != nil {
		return event.Verdict{}, err
	}
	now := time.Now()
	verdict := set.Start(now, start)
	img, err := a.judgeImage(ctx, set, subject, found.Socket)
	if err != nil {
		verdict.Incomplete = append(verdict.Incomplete, err.Error())
	}
	return policy.Join(img, verdict), nil
}

// judgeImage judges by the stored report, or by a scan made now when there is
// none and the engine at socket, which has the container, can hand the image out.
func (a *Agent) judgeImage(ctx context.Context, set *policy.Set, subject policy.Subject, socket string) (event.Verdict, error) {
	var r *report.Report
	var err error
	if subject.Image.Digest != "" {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		r, err = a.images.report(ctx, socket, subject.Image.Digest, subject.Image.Name())
	}
	return set.Image(time.Now(), imageFacts(subject, r, a.policies.statements())), err
}

// judgeAppeared judges a container whose cgroup appeared while this agent
// lives, and stops it when policy refuses it. Containers that were there
// before the agent are judged and reported, never stopped: starting a security
// product must not end what runs.
func (a *Agent) judgeAppeared(ctx context.Context, id string) error {
	verdict, err := a.judge(ctx, id)
	if err != nil {
		return fmt.Errorf("container %s: not judged: %w", short(id), err)
	}
	a.containers.setVerdict(id, verdict)
	adopted, gate := a.containers.origin(id)
	if verdict.Allowed || gate && !adopted {
		// What the gate let through, it judged by the same policy, or by the
		// administrator's choice for the case that it could not judge.
		return nil
	}
	container, _ := a.containers.find(ctx, id)
	inc := refusedIncident(a.opts.Host, container, verdict, adopted || a.opts.Observe)
	kept, err := a.pending.add(ctx, inc)
	respond(ctx, &inc, a.engines)
	a.deliver(ctx, seen{kept.number, inc})
	return err
}

// judgeAgain shows what the policy in force says about what runs already; none
// of it is stopped.
func (a *Agent) judgeAgain(ctx context.Context) {
	for _, g := range a.containers.status() {
		if g.Verdict == nil {
			continue // it is about to be judged for the first time
		}
		verdict, err := a.judge(ctx, g.Container.ID)
		if err == nil {
			a.containers.setVerdict(g.Container.ID, verdict)
		}
		a.problem("judge "+short(g.Container.ID), ignoreUnknown(err))
	}
}

func refusedIncident(host string, c event.Container, v event.Verdict, reportOnly bool) event.Incident {
	var why []string
	for _, x := range v.Violations {
		if !x.Audit {
			why = append(why, x.Message)
		}
	}
	inc := event.Incident{
		Key:      fmt.Sprintf("refused/%s/%s/%d", host, c.ID, c.Started.UnixNano()),
		Time:     time.Now().UTC(),
		Host:     host,
		Severity: event.SeverityHigh,
		Title:    "Container runs against policy",
		Sentence: fmt.Sprintf("Container `%s` (image `%s`) was started past the gate although policy refuses it.", c.Name, c.Image.Name()),
		Decision: event.Decision{
			Control: event.ControlStart, Effect: event.EffectStop, Outcome: event.Detected,
			Why: strings.Join(why, "; "), Generation: v.Generation, Audit: reportOnly,
		},
		Container: &c,
	}
	if len(v.Violations) > 0 {
		inc.Decision.Policy, inc.Decision.Rule = v.Violations[0].Policy, v.Violations[0].Rule
	}
	if reportOnly {
		inc.Title = "Running container is outside policy"
		inc.Sentence = fmt.Sprintf("Container `%s` (image `%s`) was running before this agent or is only observed, and policy would refuse it.", c.Name, c.Image.Name())
	}
	inc.Event = event.Event{
		Key: inc.Key, Kind: event.KindContainer, Time: inc.Time, Host: host, Container: &c,
		Gate: &event.Gate{Engine: c.Engine, Action: "start", Verdict: v}, Decision: &inc.Decision,
	}
	return inc
}

// isBuild says whether the container counts as a build step here.
func (c *containers) isBuild(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	return g != nil && g.found.Container.Build
}

// cgroup is the number of a container's cgroup, 0 when it is not known.
func (c *containers) cgroup(id string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.byID[id]; g != nil {
		return g.cgroup
	}
	return 0
}

// origin says whether the container was there before the agent, and whether
// the gate allowed its start.
func (c *containers) origin(id string) (adopted, gate bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.byID[id]
	return g != nil && g.adopted, g != nil && g.gate
}
