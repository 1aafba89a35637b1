package detect

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// kindOfIncident is what an incident about a control of policy is called.
type kindOfIncident struct {
	title    string
	severity event.Severity
	attack   []string
}

// policyIncident is an incident about a decision of policy: what was stopped,
// or would have been.
func (e *Engine) policyIncident(ev event.Event, d event.Decision, tree []event.Process) (event.Incident, bool) {
	kind, sentence := describe(ev, d, tree)
	if kind.title == "" {
		return event.Incident{}, false
	}
	what := "policy." + string(d.Control)
	if d.Audit {
		what = "audit." + string(d.Control)
	}
	if e.excepted != nil && e.excepted("", d, ev) {
		return event.Incident{}, false
	}
	times, tell := e.tell(what, ev, d)
	if !tell {
		return event.Incident{}, false
	}
	if d.Why == "" {
		d.Why = sentence + "."
	}
	if d.Effect == event.EffectBlock && d.Outcome == event.Killed {
		d.Why += " Policy wants it blocked; this host can only kill."
	}
	inc := newIncident(ev, what, d)
	inc.Title, inc.Severity, inc.Attack = kind.title, kind.severity, kind.attack
	inc.Sentence = sentence + done(d) + more(times) + "."
	return inc, true
}

func describe(ev event.Event, d event.Decision, tree []event.Process) (kindOfIncident, string) {
	words := facts(ev)
	switch d.Control {
	case event.ControlDrift:
		program, how := words["exec"], "run"
		if ev.Kind == event.KindFileOpen {
			program, how = words["file"], "given to the dynamic loader to run"
		}
		return kindOfIncident{"Program that was not in the image", event.SeverityHigh, []string{"T1105"}},
			fmt.Sprintf("%s was written into %s after it started, then %s%s", program, words["container"], how, by(tree))
	case event.ControlFileless:
		return kindOfIncident{"Program without a file", event.SeverityHigh, []string{"T1620"}},
			fmt.Sprintf("A program that lives in memory only (%s) was run in %s%s", words["exec"], words["container"], by(tree))
	case event.ControlExec:
		return kindOfIncident{"Program outside policy", event.SeverityMedium, nil},
			fmt.Sprintf("%s, which policy does not allow, was run in %s%s", words["exec"], words["container"], by(tree))
	case event.ControlFileRead, event.ControlFileWrite:
		if ev.File == nil {
			break
		}
		return fileIncident(ev, words)
	case event.ControlNetwork:
		if ev.Network == nil {
			break
		}
		return networkIncident(ev, words)
	}
	return kindOfIncident{}, ""
}

// fileIncident needs an event that names a file.
func fileIncident(ev event.Event, words map[string]string) (kindOfIncident, string) {
	if !ev.File.Write {
		return kindOfIncident{"Reading outside policy", event.SeverityMedium, []string{"T1005"}},
			fmt.Sprintf("%s in %s opened %s, which policy denies", words["program"], words["container"], words["file"])
	}
	how := "opened %s for writing"
	switch ev.File.Act {
	case "create", "remove", "truncate":
		how = strings.TrimSuffix(ev.File.Act, "e") + "ed %s"
	case "rename":
		how = "renamed or replaced %s"
	case "link":
		how = "linked %s"
	case "mode":
		how = "changed the permissions of %s"
	case "owner":
		how = "changed the owner of %s"
	}
	return kindOfIncident{"Change outside policy", event.SeverityMedium, []string{"T1565.001"}},
		fmt.Sprintf("%s in %s "+how+", which policy does not allow", words["program"], words["container"], words["file"])
}

// networkIncident needs an event that names its peer.
func networkIncident(ev event.Event, words map[string]string) (kindOfIncident, string) {
	if ev.Kind == event.KindSocket {
		return kindOfIncident{"Raw socket outside policy", event.SeverityMedium, []string{"T1095"}},
			fmt.Sprintf("%s in %s asked for a raw socket, which would pass the network policy by", words["program"], words["container"])
	}
	if addr, err := netip.ParseAddr(ev.Network.Address); err == nil && policy.IsMetadataService(addr) {
		return kindOfIncident{"Cloud credentials asked for", event.SeverityHigh, []string{"T1552.005"}},
			fmt.Sprintf("%s in %s tried to reach %s, where the cloud hands out this machine's credentials", words["program"], words["container"], words["peer"])
	}
	return kindOfIncident{"Connection outside policy", event.SeverityMedium, nil},
		fmt.Sprintf("%s in %s tried to reach %s, which policy does not allow", words["program"], words["container"], words["peer"])
}

// by names the parent of the process, when the tree knows it.
func by(tree []event.Process) string {
	if len(tree) < 2 {
		return ""
	}
	parent := tree[len(tree)-2]
	name := parent.Path
	if name == "" {
		name = parent.Comm
	}
	if name == "" {
		return ""
	}
	return " by " + code(name, "")
}
