package detect

import (
	"net/netip"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// Engine judges events. It is safe for concurrent use.
type Engine struct {
	rules    *Rules
	repeats  *repeats
	counts   *counts
	excepted func(detection string, d event.Decision, ev event.Event) bool
}

// Excepting makes the engine ask, before it tells of anything or counts it as a
// repetition, whether that is to be passed over. To be called before Event.
func (e *Engine) Excepting(ask func(detection string, d event.Decision, ev event.Event) bool) *Engine {
	e.excepted = ask
	return e
}

// NewEngine makes an engine of loaded rules.
func NewEngine(rules *Rules) *Engine {
	return &Engine{rules: rules, repeats: newRepeats(), counts: newCounts()}
}

// Event judges one event under the merged policy of its container and returns
// the incidents that it is, mostly none. tree holds the process and its
// ancestors, the oldest first; it may be nil and is put into the incidents.
//
// Decision.Outcome says what the kernel really did. When it did nothing and
// Decision.Effect is stricter than alert without Audit, the caller is to carry
// the effect out. Keys derive from the event's: the same event gives the same
// incidents.
//
// The same thing again (rule, container, program, and peer or file) within ten
// minutes of event time is counted: it is told the first, tenth, hundredth, …
// time, with how many there were since, and whenever the caller has to act.
func (e *Engine) Event(ev event.Event, run policy.Run, tree []event.Process) []event.Incident {
	incidents, _ := e.Judge(ev, run, tree)
	return incidents
}

// Judge is Event, and says whether something was decided about the event or a rule
// matches it, told or not. Where nothing does, nothing will about the same again.
func (e *Engine) Judge(ev event.Event, run policy.Run, tree []event.Process) (incidents []event.Incident, matched bool) {
	matched = ev.Decision != nil
	add := func(inc event.Incident, ok bool) {
		if ok {
			inc.Tree = tree
			incidents = append(incidents, inc)
		}
	}
	told := "" // the detection that the kernel decided by
	if d := ev.Decision; d != nil {
		if rule := e.rules.byID[d.Rule]; d.Control == event.ControlDetection && rule != nil {
			told = rule.ID
			if decision, on := kernelDecision(rule, run, *d); on {
				add(e.incident(rule, ev, decision))
			}
		} else if d.Control != event.ControlDetection {
			add(e.policyIncident(ev, *d, tree))
		}
	}
	if rules := e.rules.byKind[ev.Kind].asked(ev); len(rules) > 0 {
		vars := variables(ev)
		for _, rule := range rules {
			if rule.ID == told || rule.toldBy(ev.Decision) {
				continue
			}
			// An error is a fact that is absent: no match.
			if fired, err := rule.when.Eval(vars); err == nil && fired {
				matched = true
				if rule.Count != nil && !e.counts.reached(rule, ev) {
					continue
				}
				if decision, on := decide(rule, ev, run); on {
					add(e.incident(rule, ev, decision))
				}
			}
		}
	}
	if run.Audited != nil {
		d, violated := audit(ev, *run.Audited, run.Generation)
		if violated {
			matched = true
			add(e.policyIncident(ev, d, tree))
		}
	}
	return incidents, matched
}

// kernelDecision completes the decision that the kernel took for a rule. What
// the kernel stopped is told even where policy meanwhile disables the rule;
// what it only saw is not.
func kernelDecision(rule *Rule, run policy.Run, d event.Decision) (decision event.Decision, on bool) {
	setting, _ := run.Detection(rule.ID, rule.Severity, rule.AlwaysOn, rule.Effect)
	acted := d.Outcome == event.Prevented || d.Outcome == event.Killed
	if setting.Disabled && !acted {
		return d, false
	}
	// What the kernel did to the process is all there is to do to a process;
	// the sensor asks for more where that was not enough.
	want := respondWith(rule, run, setting)
	beyond := max(d.Effect.Rank(), event.EffectKill.Rank())
	if want.Rank() > beyond || !acted && beyond == event.EffectKill.Rank() {
		d.Effect = want
	}
	d.Audit = !acted && audited(rule, run)
	d.Policy, d.Generation = setting.Policy, run.Generation
	return d, true
}

// decide is the decision on a rule that fired here; on is false where policy
// switched it off.
func decide(rule *Rule, ev event.Event, run policy.Run) (d event.Decision, on bool) {
	setting, _ := run.Detection(rule.ID, rule.Severity, rule.AlwaysOn, rule.Effect)
	if setting.Disabled {
		return d, false
	}
	d = event.Decision{
		Control: event.ControlDetection, Rule: rule.ID, Outcome: event.Detected,
		Effect: respondWith(rule, run, setting), Audit: audited(rule, run),
		Policy: setting.Policy, Generation: run.Generation,
	}
	// The kernel may have stopped the same act for another reason.
	if k := ev.Decision; k != nil && (k.Outcome == event.Prevented || k.Outcome == event.Killed) {
		d.Outcome, d.Mechanism, d.Audit = k.Outcome, k.Mechanism, false
	}
	return d, true
}

// respondWith is the effect to carry out: without a policy that speaks of
// detections, those that are not always on are recorded only.
func respondWith(rule *Rule, run policy.Run, setting policy.DetectionSetting) event.Effect {
	if !rule.AlwaysOn && !run.Respond && run.Detections == nil {
		return event.EffectAlert
	}
	return setting.Effect
}

func audited(rule *Rule, run policy.Run) bool {
	return run.Observe || !rule.AlwaysOn && (run.Audit || !run.Respond && run.Detections != nil)
}

func (e *Engine) incident(rule *Rule, ev event.Event, d event.Decision) (event.Incident, bool) {
	if e.excepted != nil && e.excepted(rule.ID, d, ev) {
		return event.Incident{}, false
	}
	times, tell := e.tell(rule.ID, ev, d)
	if !tell {
		return event.Incident{}, false
	}
	d.Why = rule.Description
	inc := newIncident(ev, rule.ID, d)
	inc.Severity, inc.Title, inc.Detection = rule.Severity, rule.Title, rule.ID
	inc.AlwaysOn, inc.Attack = rule.AlwaysOn, rule.Attack
	inc.Sentence = rule.sentence.fill(ev) + done(d) + more(times) + "."
	return inc, true
}

func newIncident(ev event.Event, what string, d event.Decision) event.Incident {
	return event.Incident{
		Key: ev.Key + "/" + what, Time: ev.Time, Host: ev.Host,
		Container: ev.Container, Event: ev, Decision: d,
	}
}

// audit holds an event against the controls of policies in audit mode that stand
// beside enforcing ones. What was stopped is told already.
func audit(ev event.Event, run policy.Run, generation uint64) (d event.Decision, violated bool) {
	if ev.Decision != nil && ev.Decision.Outcome != event.Detected {
		return d, false
	}
	d, violated = auditExec(ev, run)
	if !violated {
		d, violated = auditNetwork(ev, run)
	}
	if !violated || ev.Decision != nil && ev.Decision.Control == d.Control {
		return d, false
	}
	d.Outcome, d.Audit, d.Generation = event.Detected, true, generation
	return d, true
}

func auditExec(ev event.Event, run policy.Run) (event.Decision, bool) {
	x := ev.Exec
	if ev.Kind != event.KindExec || x == nil {
		return event.Decision{}, false
	}
	switch {
	case run.Fileless.On && x.Fileless:
		return bySwitch(event.ControlFileless, run.Fileless), true
	case run.Drift.On && (x.Upper || x.Modified):
		return bySwitch(event.ControlDrift, run.Drift), true
	case run.Exec.Effect == "":
		return event.Decision{}, false
	}
	allowed, rule := run.Exec.Judge(x.Path)
	return byRule(event.ControlExec, run.Exec.Effect, rule.Policy, rule.Source, run.Exec.By, run.Exec.Source), !allowed
}

func auditNetwork(ev event.Event, run policy.Run) (event.Decision, bool) {
	n := ev.Network
	if ev.Kind != event.KindConnect || n == nil || run.Network.Effect == "" {
		return event.Decision{}, false
	}
	addr, err := netip.ParseAddr(n.Address)
	if err != nil {
		return event.Decision{}, false
	}
	allowed, rule := run.Network.Judge(addr, uint16(n.Port))
	return byRule(event.ControlNetwork, run.Network.Effect, rule.Policy, rule.Source, run.Network.By, run.Network.Source), !allowed
}

func bySwitch(control event.Control, s policy.Switch) event.Decision {
	return event.Decision{Control: control, Effect: s.Effect, Policy: s.Policy, Rule: s.Source}
}

// byRule names the rule that denied, or the allow-list that does not hold it.
func byRule(control event.Control, effect event.Effect, policyName, source string, by []string, list string) event.Decision {
	if policyName == "" && len(by) > 0 {
		policyName, source = by[0], list
	}
	return event.Decision{Control: control, Effect: effect, Policy: policyName, Rule: source}
}
