package probe

import (
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// startRow is the control over images and start parameters: an engine that
// asks the gate refuses; what no gate saw is judged when it appears.
func startRow(found []event.Engine) event.Capability {
	r := event.Capability{Control: event.ControlStart, Title: "images and start parameters"}
	var with, dead, unknown, without []string
	for _, e := range found {
		switch {
		case e.Gate == "installed":
			with = append(with, e.Name)
		case e.Gate == "unreachable":
			dead = append(dead, e.Name)
		case e.Error != "":
			unknown = append(unknown, e.Name)
		default:
			without = append(without, e.Name)
		}
	}
	switch {
	case len(found) == 0:
		r.Strength, r.Why = event.StrengthNone, "no container engine was found"
		r.Fix = "start an engine: Docker, containerd, Podman or CRI-O"
	case len(with) > 0:
		r.Strength, r.Mechanism, r.Why = event.StrengthPrevent, "gate", "asked before each start by "+strings.Join(with, ", ")
		if len(without) > 0 {
			r.Why += "; containers of " + strings.Join(without, ", ") + ", which ask no gate, are judged when they appear, and stopped"
		}
	case len(dead) > 0:
		r.Strength, r.Mechanism = event.StrengthPrevent, "gate"
		r.Why = "the gate of " + strings.Join(dead, ", ") + " does not answer: the engine refuses every request"
		r.Fix = "start it: breakwater gate run (or take it out: breakwater gate uninstall)"
	case len(unknown) > 0:
		r.Strength, r.Inconclusive = event.StrengthNone, true
		r.Why = "not told by " + strings.Join(unknown, ", ") + ", whose answer is above"
		r.Fix = "run as root, and see that the engine answers"
	default:
		r.Strength, r.Mechanism = event.StrengthKill, "agent"
		r.Why = "no gate in " + strings.Join(without, ", ") + ": containers are judged when they appear, and stopped"
		r.Fix = "to refuse before the start: breakwater gate install"
	}
	return r
}

// gated reports whether some engine asks the gate.
func gated(found []event.Engine) bool {
	for _, e := range found {
		if e.Gate == "installed" {
			return true
		}
	}
	return false
}
