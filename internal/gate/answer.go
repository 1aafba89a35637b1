package gate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// admit lets a judged call through, after telling the agent what it must know
// first.
func (j *judge) admit(ctx context.Context, q request, c call, r ruling) answer {
	j.allowed.Add(1)
	if c.treat == startCall {
		if err := j.agent.starting(ctx, startNote(j.options.Engine, r)); err != nil {
			// Without the agent the default policy in the kernel holds.
			j.options.Log.Warn("the agent was not told", "call", q.Method+" "+c.path, "error", err)
		}
	}
	decision := &event.Decision{Control: event.ControlStart, Outcome: event.Detected, Audit: true}
	if len(r.verdict.Violations) == 0 {
		decision = nil
	} else {
		decision.Why = short(r.verdict.Violations[0].Message)
	}
	j.note(ctx, q, string(c.treat), r, decision)
	return answer{Allow: true}
}

// deny refuses a call with all reasons.
func (j *judge) deny(ctx context.Context, q request, action string, r ruling) answer {
	j.refused.Add(1)
	r.verdict.Allowed = false
	r = brief(r)
	reasons := enforced(r.verdict)
	decision := &event.Decision{Control: event.ControlStart, Effect: event.EffectBlock, Outcome: event.Prevented}
	if len(reasons) > 0 {
		decision.Why, decision.Policy, decision.Rule = reasons[0].Message, reasons[0].Policy, reasons[0].Rule
		if strings.HasPrefix(reasons[0].Rule, "image.") {
			decision.Control = event.ControlImage
		}
	}
	j.note(ctx, q, action, r, decision)
	return answer{Msg: refusal(r)}
}

// cannot applies the administrator's choice to a call that cannot be judged.
func (j *judge) cannot(ctx context.Context, q request, c call, r ruling, err error) answer {
	j.failed.Add(1)
	reason := fmt.Sprintf("The call cannot be judged: %v", err)
	r.verdict.Incomplete = append(r.verdict.Incomplete, reason)
	if j.options.OnFailure == FailOpen {
		j.options.Log.Warn("let through unjudged", "call", q.Method+" "+c.path, "error", err)
		r.verdict.Allowed = true
		j.note(ctx, q, string(c.treat), r, &event.Decision{
			Control: event.ControlStart, Effect: event.EffectBlock, Outcome: event.NotCovered,
			Why: reason + "; the gate is set to stay open on failure",
		})
		return answer{Allow: true}
	}
	r.verdict.Violations = append(no("gate.failure", reason,
		"Mend what failed (see `breakwater gate status`), or let the administrator start the gate with --on-failure=open").Violations, r.verdict.Violations...)
	return j.deny(ctx, q, string(c.treat), r)
}

// note writes a decision down for the agent.
func (j *judge) note(ctx context.Context, q request, action string, r ruling, d *event.Decision) {
	r = brief(r)
	if d != nil {
		d.Mechanism, d.Generation = "gate", r.verdict.Generation
	}
	e := event.Event{
		Time:     time.Now().UTC(),
		Gate:     &event.Gate{Engine: "docker", Action: action, User: short(q.User), Verdict: r.verdict},
		Decision: d,
	}
	if r.container.Image.Digest != "" || r.container.ID != "" || r.container.Name != "" {
		e.Container = &r.container
	}
	if err := j.notes.add(context.WithoutCancel(ctx), e); err != nil {
		j.options.Log.Error("a decision was not written down", "action", action, "error", err)
	}
}

func enforced(v event.Verdict) []event.Violation {
	var out []event.Violation
	for _, x := range v.Violations {
		if !x.Audit {
			out = append(out, x)
		}
	}
	return out
}

// refusal is what a person reads behind the engine's own "authorization denied
// by plugin": every reason with its way out.
func refusal(r ruling) string {
	reasons := enforced(r.verdict)
	var b strings.Builder
	what := r.what
	if what == "" {
		what = "the call"
	}
	count := fmt.Sprintf("%d reasons", len(reasons))
	if len(reasons) == 1 {
		count = "1 reason"
	}
	fmt.Fprintf(&b, "%s is refused for %s:", what, count)
	for i, v := range reasons {
		fmt.Fprintf(&b, "\n  %d. %s", i+1, v.Message)
		fmt.Fprintf(&b, "\n     rule: %s of policy %s", v.Rule, v.Policy)
		if v.Source != "" {
			fmt.Fprintf(&b, " (%s)", v.Source)
		}
		if v.Remediation != "" {
			fmt.Fprintf(&b, "\n     fix:  %s", v.Remediation)
		}
	}
	for _, gap := range r.verdict.Incomplete {
		fmt.Fprintf(&b, "\n  note: %s", gap)
	}
	return b.String()
}
