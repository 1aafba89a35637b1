package event

// Effect is what a policy wants done about an act, from mild to strict.
type Effect string

// The effects, in rising order of strictness. Their order is Effect.Rank.
const (
	EffectAlert    Effect = "alert"    // recorded
	EffectThrottle Effect = "throttle" // cgroup limits
	EffectBlock    Effect = "block"    // the act is refused, the process goes on
	EffectKill     Effect = "kill"     // the process
	EffectIsolate  Effect = "isolate"  // the container's network
	EffectPause    Effect = "pause"    // the container
	EffectStop     Effect = "stop"     // the container
)

// Effects lists every effect in rising order of strictness.
var effects = [...]Effect{EffectAlert, EffectThrottle, EffectBlock, EffectKill, EffectIsolate, EffectPause, EffectStop}

// Rank orders effects by strictness; an unknown effect ranks below all (-1).
func (e Effect) Rank() int {
	for i, x := range effects {
		if x == e {
			return i
		}
	}
	return -1
}

// Outcome is what really came of an act: the four words of the console.
type Outcome string

// The outcomes.
const (
	Prevented  Outcome = "prevented"   // the act was refused and had no effect
	Killed     Outcome = "killed"      // the process was ended before or while it acted
	Detected   Outcome = "detected"    // it happened and was recorded
	NotCovered Outcome = "not covered" // nothing watches this here
)

// Control names what a decision is about. The names are those of the policy's
// run section and of the doctor's table.
type Control string

// The controls.
const (
	ControlExec         Control = "exec"
	ControlDrift        Control = "drift"
	ControlFileless     Control = "fileless"
	ControlFileRead     Control = "file-read"
	ControlFileWrite    Control = "file-write"
	ControlNetwork      Control = "network"
	ControlDetection    Control = "detection"
	ControlStart        Control = "start"
	ControlImage        Control = "image"
	ControlSysctl       Control = "sysctl"
	ControlDevice       Control = "device"
	ControlMount        Control = "mount"
	ControlPtrace       Control = "ptrace"
	ControlCapabilities Control = "capabilities"
	ControlResources    Control = "resources"
)

// Decision is what was decided about one act and what came of it.
type Decision struct {
	Control Control `json:"control"`
	Effect  Effect  `json:"effect"`
	Outcome Outcome `json:"outcome"`
	// Why is one plain sentence for people.
	Why string `json:"why"`
	// Policy and Rule name what decided; Policy is empty for the always-on pack.
	Policy     string `json:"policy,omitempty"`
	Generation uint64 `json:"generation,omitempty"` // of the policy bundle in force
	Rule       string `json:"rule,omitempty"`
	// Audit: the policy is in audit mode, so the effect was not carried out.
	Audit bool `json:"audit,omitempty"`
	// Mechanism is what carried it out: lsm, exec-kill, syscall-kill, cgroup,
	// gate, agent.
	Mechanism string `json:"mechanism,omitempty"`
}

// Verdict is the answer of the policy language to a question.
type Verdict struct {
	// Allowed is false when an enforcing policy is violated.
	Allowed bool `json:"allowed"`
	// Violations holds every violated rule, audited ones too, never only the
	// first; enforced ones come first.
	Violations []Violation `json:"violations,omitempty"`
	// Policies names every policy that took part, sorted.
	Policies   []string `json:"policies,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	// Incomplete says what could not be judged and why, one sentence each.
	Incomplete []string `json:"incomplete,omitempty"`
}

// Violation is one rule that does not hold.
type Violation struct {
	Policy      string `json:"policy"`
	Rule        string `json:"rule"` // e.g. image.maxSeverity, start.privileged, or a rule's id
	Message     string `json:"message"`
	Remediation string `json:"remediation,omitempty"`
	// Source is "file:line" of the rule in the policy's source.
	Source string `json:"source,omitempty"`
	// Audit: the policy does not enforce here; the violation is only recorded.
	Audit bool `json:"audit,omitempty"`
}
