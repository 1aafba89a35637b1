package enforce

import (
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// Rule names what a kernel record means by a rule's number; it makes Kernel a
// sensor.Rules. For slots of an earlier agent only the generation is known.
func (k *Kernel) Rule(slot uint32, control event.Control, number uint16) sensor.Rule {
	k.mu.Lock()
	c := k.known[Slot(slot)]
	k.mu.Unlock()
	if c == nil {
		var s bpf.Slot
		_ = k.objects.Slots.Lookup(slot, &s)
		return sensor.Rule{Generation: s.Generation}
	}
	return c.rule(control, number)
}

func (c *compiled) rule(control event.Control, number uint16) sensor.Rule {
	r := sensor.Rule{Generation: c.run.Generation, Policy: strings.Join(c.run.Policies, ", ")}
	switch control {
	case event.ControlDrift:
		c.name(&r, c.run.Drift, "run.exec.drift")
	case event.ControlFileless:
		c.name(&r, c.run.Fileless, "run.exec.fileless")
	case event.ControlExec:
		r.Source, r.Effect, r.Audit = "run.exec.allow", c.run.Exec.Effect, c.run.Exec.Audit || c.run.Audit
		r.Policy = restricting(c.run.Exec.By, r.Policy)
		if i := int(number) - 1; i >= 0 && i < len(c.exec) {
			r.Policy, r.Source = c.exec[i].Policy, source("run.exec "+c.exec[i].Pattern, c.exec[i].Source)
		}
	case event.ControlFileRead, event.ControlFileWrite:
		r.Source, r.Effect, r.Audit = "run.files", c.run.Files.Effect, c.run.Files.Audit || c.run.Audit
		if i := int(number) - 1; i >= 0 && i < len(c.fileOf) {
			r.Policy, r.Source = c.fileOf[i].Policy, source("run.files "+c.fileOf[i].Pattern, c.fileOf[i].Source)
		} else { // a policy in audit mode beside enforcing ones
			r.Effect, r.Audit = event.EffectAlert, true
		}
	case event.ControlNetwork:
		r.Source, r.Effect, r.Audit = "run.network.egress", c.run.Network.Effect, c.run.Network.Audit || c.run.Audit
		r.Policy = restricting(c.run.Network.By, r.Policy)
		if i := int(number) - 1; i >= 0 && i < len(c.peers) {
			r.Policy, r.Source = c.peers[i].Policy, source("run.network "+c.peers[i].Prefix.String(), c.peers[i].Source)
		}
	}
	return r
}

// restricting names the policies whose lists together allow what may be: what no
// list holds, they refused.
func restricting(by []string, all string) string {
	if len(by) == 0 {
		return all
	}
	return strings.Join(by, ", ")
}

func (c *compiled) name(r *sensor.Rule, s policy.Switch, name string) {
	r.Source, r.Effect, r.Audit = source(name, s.Source), s.Effect, s.Audit || c.run.Audit
	if s.Policy != "" {
		r.Policy = s.Policy
	}
}

func source(name, place string) string {
	if place == "" {
		return name
	}
	return name + " (" + place + ")"
}
