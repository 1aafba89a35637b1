//go:build linux

package probe

import (
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cilium/ebpf"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// creationRows are the controls that without BPF LSM can be set only when a
// container is created, and two that have cgroup hooks of their own.
func (p *prober) creationRows() []event.Capability {
	return []event.Capability{
		p.sysctlRow(),
		p.deviceRow(),
		p.lsmOrCreation(event.ControlMount, hookMount, "a seccomp filter", act{Do: doSeccomp},
			trial{act: act{Do: doMount, Path: p.dir}, free: syscall.ENODEV}),
		p.lsmOrCreation(event.ControlPtrace, hookPtrace, "a seccomp filter", act{Do: doSeccomp},
			trial{act: act{Do: doPeek, PID: os.Getpid()}, free: syscall.EFAULT}),
		p.capabilitiesRow(),
	}
}

// canarySysctl is written with its own value: a rate limit of kernel messages.
const canarySysctl = "/proc/sys/kernel/printk_ratelimit"

func (p *prober) sysctlRow() event.Capability {
	if p.scratch.unified == "" {
		return p.withoutUnified(event.ControlSysctl)
	}
	f := p.try(trial{name: "cgroup/sysctl", act: act{Do: doSysctl, Path: canarySysctl}, attach: func() (io.Closer, error) {
		return refuse(p.scratch.unified, ebpf.CGroupSysctl, ebpf.AttachCGroupSysctl, onlyWrites()...)
	}})
	return p.cgroupRow(event.ControlSysctl, f)
}

// deviceRow: by a program on v2; on v1 by the devices controller's own list.
func (p *prober) deviceRow() event.Capability {
	open := act{Do: doOpen, Path: "/dev/zero"}
	if p.scratch.unified != "" {
		return p.cgroupRow(event.ControlDevice, p.try(trial{name: "cgroup/dev", act: open, attach: func() (io.Closer, error) {
			return refuse(p.scratch.unified, ebpf.CGroupDevice, ebpf.AttachCGroupDevice)
		}}))
	}
	dir, legacy := p.scratch.controller("devices")
	if !legacy {
		return row(event.ControlDevice, event.StrengthNone, "", finding{why: "there is neither cgroup v2 nor v1's devices controller"})
	}
	f := p.try(trial{name: "v1 devices controller", act: open, attach: func() (io.Closer, error) {
		const zero = "c 1:5 rwm"
		if err := os.WriteFile(filepath.Join(dir, "devices.deny"), []byte(zero), 0); err != nil {
			return nil, err
		}
		return closer(func() error { return os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(zero), 0) }), nil
	}})
	if !f.acts {
		return row(event.ControlDevice, event.StrengthNone, "", f)
	}
	return row(event.ControlDevice, event.StrengthPrevent, "cgroup", f)
}

func (p *prober) cgroupRow(c event.Control, f finding) event.Capability {
	if !f.acts {
		r := row(c, event.StrengthNone, "", f)
		r.Fix = bpfFix
		return r
	}
	p.acted = true
	return row(c, event.StrengthPrevent, "cgroup", f)
}

// lsmOrCreation tries an LSM hook, and without it what the engine can set when
// it creates a container.
func (p *prober) lsmOrCreation(c event.Control, h hook, means string, by act, t trial) event.Capability {
	guard := p.hookTrial(h, t.act)
	guard.free = t.free
	bpf := p.try(guard)
	if bpf.acts {
		return row(c, event.StrengthPrevent, p.refuser.mechanism(), bpf)
	}
	t.name = means
	set := p.try(p.confined(t, by))
	if !set.acts {
		r := row(c, event.StrengthNone, "", set, bpf)
		r.Fix = lsmFix()
		return r
	}
	var r event.Capability
	if p.gated {
		set.why += "; the engine sets it at creation, and the gate refuses containers without (start.require)"
		r = row(c, event.StrengthPrevent, "creation", set, bpf)
		r.Fix = lsmFix()
		return r
	}
	set.why += ", but no gate sees to it that containers are created so"
	r = row(c, event.StrengthNone, "", set, bpf)
	r.Fix = lsmFix() + "; or install the gate, for policy start.require: breakwater gate install"
	return r
}

func (p *prober) capabilitiesRow() event.Capability {
	const c = event.ControlCapabilities
	bpf := p.lsmOrCreation(c, hookBPF, "a seccomp filter", act{Do: doSeccomp}, trial{act: act{Do: doBPF}, free: syscall.EINVAL})
	drop := p.try(p.confined(trial{name: "dropping capabilities", act: act{Do: doRaw}}, act{Do: doDropCaps}))
	if !drop.acts {
		return row(c, event.StrengthNone, "", drop, finding{why: bpf.Why, inconclusive: bpf.Inconclusive})
	}
	bpf.Why = drop.why + "; for bpf(2) " + bpf.Why
	return bpf
}
