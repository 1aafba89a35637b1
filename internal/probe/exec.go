//go:build linux

package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// rows probes everything, in the order of controls.
func (p *prober) rows() []event.Capability {
	p.chooseRefuser()
	events := p.events()
	exec := p.execRow(event.ControlExec, act{Do: doExec, Path: p.program}, events)
	rows := []event.Capability{
		exec,
		driftRow(exec),
		p.execRow(event.ControlFileless, act{Do: doMemfd}, events),
		p.networkRow(),
		p.detectionRow(events),
	}
	return append(rows, append(p.fileRows(events), append(p.creationRows(), p.resourcesRow())...)...)
}

// hookTrial is a trial of a place where the kernel asks.
func (p *prober) hookTrial(h hook, a act) trial {
	r := p.refuser
	return trial{name: r.name(h), act: a, attach: func() (io.Closer, error) {
		s, err := p.scope()
		if err != nil {
			return nil, err
		}
		return r.attach(h, s)
	}}
}

// chooseRefuser finds out by which way programs get to the kernel's questions:
// by LSM, or else by the functions' return values. Without any the findings are
// those of LSM, and why.
func (p *prober) chooseRefuser() {
	a := act{Do: doExec, Path: p.program}
	byLSM := p.try(p.hookTrial(hookExec, a))
	p.hooked = byLSM.acts
	if p.hooked {
		return
	}
	p.refuser.byReturn = true
	byReturn := p.try(p.hookTrial(hookExec, a))
	if p.hooked = byReturn.acts; p.hooked {
		p.notes = append(p.notes, byLSM.why)
		return
	}
	p.refuser.byReturn = false
	p.notes = append(p.notes, byReturn.why)
}

// execRow: refuse where the kernel asks, else kill, else fanotify, else see.
func (p *prober) execRow(c event.Control, a act, events finding) event.Capability {
	bpf := p.try(p.hookTrial(hookExec, a))
	if bpf.acts {
		p.acted = true
		return row(c, event.StrengthPrevent, p.refuser.mechanism(), bpf)
	}
	kill := p.killed(a)
	var fan finding
	if a.Do == doExec {
		fan = p.try(fanotifyTrial(a, p.program, fanOpenExecPerm, p))
	}
	r := func() event.Capability {
		switch {
		case kill.acts && fan.acts:
			return row(c, event.StrengthKill, "exec-kill", kill, finding{why: "fanotify could refuse instead while the agent lives"}, bpf)
		case kill.acts:
			return row(c, event.StrengthKill, "exec-kill", kill, bpf)
		case events.acts:
			return row(c, event.StrengthDetect, "tracepoint", events, kill, bpf)
		}
		return row(c, event.StrengthNone, "", kill, bpf)
	}()
	r.Fix = lsmFix()
	if r.Strength == event.StrengthNone {
		r.Fix = bpfFix
	}
	return r
}

// driftRow: the exec row's canary was written a moment before, so the same
// refusal met drift.
func driftRow(r event.Capability) event.Capability {
	r.Control, r.Title = event.ControlDrift, title(event.ControlDrift)
	return r
}

// killRounds: a race between the kill and the new program must not pass for a
// kill by luck.
const killRounds = 5

// killed probes the kill at sched_process_exec: the program's first write must
// be absent, every time.
func (p *prober) killed(a act) finding {
	for round := range killRounds {
		s, err := p.scope()
		if err != nil {
			return finding{why: err.Error(), inconclusive: true}
		}
		guard, err := killAt("sched_process_exec", s)
		if err != nil {
			return finding{why: "kill at sched_process_exec: " + err.Error(), inconclusive: transient(err)}
		}
		_, err = p.inside(a)
		_, outside := p.outside(a)
		if closeErr := guard.Close(); closeErr != nil {
			return finding{why: closeErr.Error(), inconclusive: true}
		}
		switch {
		case errors.Is(err, errRan):
			return finding{why: fmt.Sprintf("kill at sched_process_exec: the new program wrote in round %d", round+1)}
		case !errors.Is(err, errKilled):
			return finding{why: fmt.Sprintf("kill at sched_process_exec: %v", err), inconclusive: true}
		case !errors.Is(outside, errRan):
			return finding{why: fmt.Sprintf("kill at sched_process_exec reached a process outside of its cgroup (%v)", outside), inconclusive: true}
		}
	}
	p.acted = true
	return finding{acts: true, why: fmt.Sprintf("killed at sched_process_exec: %d of %d canaries died before their first write", killRounds, killRounds)}
}

// events probes that the kernel's reports reach a reader: a tracepoint program
// puts one into a ring buffer when the canary starts a program.
func (p *prober) events() finding {
	const name = "tracepoint to ring buffer"
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Name: "breakwater_prob", Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		return finding{why: name + ": making the ring: " + reason(err), inconclusive: transient(err)}
	}
	defer ring.Close()
	reader, err := ringbuf.NewReader(ring)
	if err != nil {
		return finding{why: name + ": " + reason(err), inconclusive: true}
	}
	defer reader.Close()
	s, err := p.scope()
	if err != nil {
		return finding{why: name + ": " + err.Error(), inconclusive: true}
	}
	guard, err := report("sched_process_exec", s, ring)
	if err != nil {
		return finding{why: name + ": " + err.Error(), inconclusive: transient(err)}
	}
	defer guard.Close()
	if _, err := p.inside(act{Do: doExec, Path: p.program}); !errors.Is(err, errRan) {
		return finding{why: name + ": " + err.Error(), inconclusive: true}
	}
	reader.SetDeadline(time.Now().Add(patience))
	if _, err := reader.Read(); err != nil {
		return finding{why: name + ": the canary's act was not reported: " + err.Error()}
	}
	p.acted = true
	return finding{acts: true, why: "the canary's act was reported through a tracepoint and a ring buffer"}
}

func (p *prober) detectionRow(events finding) event.Capability {
	if !events.acts {
		r := row(event.ControlDetection, event.StrengthNone, "", events)
		r.Fix = bpfFix
		return r
	}
	return row(event.ControlDetection, event.StrengthDetect, "tracepoint", events, p.engineSocket())
}

const bpfFix = "allow this process to use BPF: CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), a kernel of 5.8 or newer, no lockdown"

// lsmFix is how the host could get Tier 1.
func lsmFix() string {
	list, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return "for refusals in the kernel boot one built with CONFIG_BPF_LSM, with bpf in its lsm= list"
	}
	now := strings.TrimSpace(string(list))
	if strings.Contains(","+now+",", ",bpf,") {
		return "for refusals in the kernel let this process load LSM programs: CAP_BPF, CAP_PERFMON and no lockdown"
	}
	return "for refusals in the kernel add to its command line: lsm=" + now + ",bpf"
}
