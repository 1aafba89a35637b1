// Package probe finds out what this host can do about each control of a
// policy, by effect: a mechanism counts only after it refused a canary's act.
// A BPF LSM program, say, attaches without error and never fires when bpf is
// missing from the kernel's lsm= list; no configuration file tells.
//
// The canary is a child process in a scratch cgroup that is made for it and
// removed afterwards. For each mechanism the prober lets the canary act first
// (it must succeed), puts the mechanism in place, lets it act again (it must be
// refused), lets a second canary outside of the scratch cgroup act (it must
// succeed: the mechanism reaches nobody else), and takes the mechanism away.
// Programs that the kernel calls for every process begin with the test whether
// the process is in the scratch cgroup. No act leaves anything behind.
package probe

import (
	"context"
	"os"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Options say how to probe.
type Options struct {
	// Canary are the arguments by which the running binary itself calls
	// Canary on its standard streams; required.
	Canary []string
	// Root is where engines are looked for (sockets, configuration): "" is the
	// host's root.
	Root string
	// Docker are further sockets of Docker engines, beside the usual places.
	Docker []string
	// Gate is the name by which the gate stands in an engine's list of
	// authorization plugins; "" is "breakwater".
	Gate string
	// AsksGate finds out whether the Docker engine at a socket asks the gate.
	// It is called when the engine's own list does not name it: engines up to
	// Docker 20.10 leave out what they took from their configuration while they
	// ran. nil takes the engine's list for the truth.
	AsksGate func(ctx context.Context, socket string) bool
}

// Run probes this host. It never fails as a whole: what could not be found out
// is in the rows, marked Inconclusive, and such a result must not be cached.
// The rows' order is fixed, one row a control. It takes a few seconds, needs
// root for most of its rows, and starts and ends processes. Calls may overlap.
func Run(ctx context.Context, o Options) event.Doctor {
	o = o.withDefaults()
	d := event.Doctor{Schema: event.SchemaVersion, Time: time.Now().UTC()}
	describeHost(&d)
	d.Engines = engines(ctx, o)
	p, problem := newProber(ctx, o, gated(d.Engines))
	if problem != "" {
		d.Capabilities = unprobed(problem)
	} else {
		d.Capabilities = p.rows()
		if d.Tier = p.tier(); d.Tier == 1 {
			d.Hook = p.refuser.mechanism()
		}
		if _, err := os.Stat(kernelTypes); err != nil {
			d.Capabilities, d.Tier, d.Hook = withoutTypes(d.Capabilities, err), 0, ""
		}
		d.Notes = append(append(d.Notes, p.notes...), p.close()...)
	}
	d.Capabilities = append(d.Capabilities, startRow(d.Engines))
	return d
}

func (o Options) withDefaults() Options {
	if o.Gate == "" {
		o.Gate = "breakwater"
	}
	return o
}

// controls are the rows in their order, but for the start row, with their
// titles.
var controls = [...]struct {
	control event.Control
	title   string
}{
	{event.ControlExec, "programs outside policy"},
	{event.ControlDrift, "programs that were not in the image"},
	{event.ControlFileless, "programs without a file"},
	{event.ControlNetwork, "connections outside policy"},
	{event.ControlDetection, "suspicious behaviour"},
	{event.ControlFileRead, "reading files"},
	{event.ControlFileWrite, "writing files"},
	{event.ControlSysctl, "kernel settings"},
	{event.ControlDevice, "device nodes"},
	{event.ControlMount, "mounting file systems"},
	{event.ControlPtrace, "reaching into other processes"},
	{event.ControlCapabilities, "capabilities, bpf, raw sockets"},
	{event.ControlResources, "CPU, memory, process limits"},
}

// title of a row.
func title(c event.Control) string {
	for _, r := range controls {
		if r.control == c {
			return r.title
		}
	}
	return string(c)
}

// unprobed is every row when there is no probing at all.
func unprobed(problem string) []event.Capability {
	var rows []event.Capability
	for _, c := range controls {
		rows = append(rows, event.Capability{Control: c.control, Title: c.title, Strength: event.StrengthNone,
			Why: "not probed: " + problem, Inconclusive: true, Unused: unused(c.control)})
	}
	return rows
}

// unused: the policy language of this version has no field that puts the
// control's mechanism to use in a running container.
func unused(c event.Control) bool {
	switch c {
	case event.ControlExec, event.ControlDrift, event.ControlFileless, event.ControlNetwork, event.ControlDetection, event.ControlStart,
		event.ControlFileRead, event.ControlFileWrite, event.ControlResources:
		return false
	}
	return true
}

// kernelTypes is where the kernel describes its types (BTF). The agent's
// programs are fitted to the kernel by it; the canary's need none.
const kernelTypes = "/sys/kernel/btf/vmlinux"

// withoutTypes takes back what the agent's programs would do: what the kernel
// did for the canary's program it cannot do for them.
func withoutTypes(rows []event.Capability, problem error) []event.Capability {
	for i := range rows {
		switch r := &rows[i]; r.Control {
		case event.ControlExec, event.ControlDrift, event.ControlFileless, event.ControlNetwork, event.ControlDetection,
			event.ControlFileWrite, event.ControlSysctl, event.ControlDevice:
			r.Strength, r.Mechanism = event.StrengthNone, ""
			r.Why = "the agent's programs cannot be fitted to a kernel that does not describe its types (BTF): " + problem.Error()
			r.Fix = "use a kernel built with CONFIG_DEBUG_INFO_BTF; a container needs the host's /sys"
		}
	}
	return rows
}
