package policy

import (
	"net/netip"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Run is the merged run section of all policies that apply to one container,
// in the typed form that the kernel can enforce. Merging follows the language:
// a deny beats an allow, allow-lists intersect, the strictest effect wins, and
// an exception lifts only the policy that it stands in.
//
// The zero Run allows everything and enforces nothing.
type Run struct {
	// Policies that took part, sorted; Generation of the set they came from.
	Policies   []string
	Generation uint64
	// Audit: no applying policy enforces here. Verdicts are recorded only.
	Audit bool

	// Observe: nothing is stopped, the always-on pack included; everything is
	// recorded. No policy can say so: it is how an agent was started.
	Observe bool

	Drift    Switch // programs written or modified after the container started
	Fileless Switch // programs without a name in a directory
	Exec     Exec
	Files    Files
	Network  Network
	// Resources are judged by the agent, not by the kernel.
	Resources Resources

	// Detections by id; a detection that is absent has the setting of the key
	// "*", and without that is enabled with its default effect. Always-on ones
	// can only be lifted by a waiver. See Run.Detection.
	Detections map[string]DetectionSetting
	// DetectionEffects replaces the default effect of enabled detections of a
	// severity.
	DetectionEffects map[event.Severity]event.Effect
	// Respond: an enforcing policy has a detections section, so the effects of
	// detections are carried out; otherwise they are recorded only. Always-on
	// detections respond in any case.
	Respond bool
	Waivers []Waiver

	// Audited holds the controls of policies in audit mode that stand beside
	// enforcing ones of the same control: events are to be held against it and
	// recorded, never stopped. Nil when there is nothing of the kind. A control
	// that only audit policies set stands in Run itself with its Audit set.
	Audited *Run
}

// Switch is a control without a list.
type Switch struct {
	On     bool
	Effect event.Effect // block or kill; alert records only
	Policy string       // whose effect it is
	Source string       // file:line
	Audit  bool
}

// Exec says which programs may run. Paths are absolute, in the container's
// mount namespace; a pattern may end in "/*" (that folder) or "/**" (that tree).
type Exec struct {
	Effect event.Effect
	Audit  bool
	// Restrict: only Allow may run. With Restrict false, Allow is empty.
	Restrict bool
	Allow    []PathRule
	Deny     []PathRule // beats Allow
	// By names the policies that restrict, sorted; Source is "file:line" of
	// the first one's exec section.
	By     []string
	Source string
}

// Files says which files may not be opened at all, and which only to be read.
// Patterns are those of Exec.
type Files struct {
	Effect   event.Effect
	Audit    bool
	Deny     []PathRule
	ReadOnly []PathRule
}

// PathRule is one path pattern with the policy that brought it.
type PathRule struct {
	Pattern string
	Policy  string
	Source  string // file:line
}

// Network says which peers a container may talk to.
type Network struct {
	Effect event.Effect
	Audit  bool
	// Restrict: only Egress may be reached. Loopback inside the container's own
	// network namespace is always allowed.
	Restrict bool
	Egress   []PeerRule
	Deny     []PeerRule // beats Egress; the metadata service stands here
	// By and Source as in Exec.
	By     []string
	Source string
}

// PeerRule is a set of peers: every port when Ports is empty.
type PeerRule struct {
	Prefix netip.Prefix // IPv4 or IPv6, masked, never 4in6
	Ports  []PortRange
	Policy string
	Source string
}

// PortRange is inclusive.
type PortRange struct{ First, Last uint16 }

// DetectionSetting is what policy says about one detection.
type DetectionSetting struct {
	Disabled bool
	Effect   event.Effect // "" = the rule's own default
	Policy   string
}

// Waiver switches one always-on detection off, by name, with reason and end.
type Waiver struct {
	Detection string
	Reason    string
	Policy    string
	Expires   string // RFC 3339 date; already checked not to be past
}
