package sensor

import (
	"fmt"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// always-on detections and the miner's, as content/detections names them.
const (
	DetectionReverseShell = "reverse-shell"
	DetectionReleaseAgent = "escape-release-agent"
	DetectionCorePattern  = "escape-core-pattern"
	DetectionEngineSocket = "container-socket"
	DetectionMiner        = "miner-handshake"
	DetectionHelper       = "escape-kernel-helper"
	DetectionModule       = "escape-kernel-module"
	DetectionBPF          = "escape-bpf"
	DetectionHandle       = "escape-file-handle"
	DetectionDevice       = "escape-block-device"
	DetectionForkBomb     = "fork-bomb"
)

// control translates the kernel's word; detection is set for those that are
// parts of a detection.
func control(c uint8) (name event.Control, detection string) {
	switch c {
	case bpf.ControlExec:
		return event.ControlExec, ""
	case bpf.ControlDrift:
		return event.ControlDrift, ""
	case bpf.ControlFileless:
		return event.ControlFileless, ""
	case bpf.ControlNetwork:
		return event.ControlNetwork, ""
	case bpf.ControlFiles, bpf.ControlFilesAudited:
		return event.ControlFileRead, ""
	case bpf.ControlReverseShell:
		return event.ControlDetection, DetectionReverseShell
	case bpf.ControlReleaseAgent:
		return event.ControlDetection, DetectionReleaseAgent
	case bpf.ControlCorePattern:
		return event.ControlDetection, DetectionCorePattern
	case bpf.ControlEngineSocket:
		return event.ControlDetection, DetectionEngineSocket
	case bpf.ControlMiner:
		return event.ControlDetection, DetectionMiner
	case bpf.ControlHelper:
		return event.ControlDetection, DetectionHelper
	case bpf.ControlModule:
		return event.ControlDetection, DetectionModule
	case bpf.ControlBPF:
		return event.ControlDetection, DetectionBPF
	case bpf.ControlHandle:
		return event.ControlDetection, DetectionHandle
	case bpf.ControlDevice:
		return event.ControlDetection, DetectionDevice
	case bpf.ControlForkBomb:
		return event.ControlDetection, DetectionForkBomb
	}
	return event.ControlDetection, ""
}

// judge fills the decision, when the kernel took one.
func (d *decoder) judge(e *event.Event, h *bpf.Head, why func(event.Control) string) {
	if h.Outcome == bpf.OutcomeNone {
		return
	}
	name, detection := control(h.Control)
	if name == event.ControlFileRead && e.File != nil && e.File.Write {
		name = event.ControlFileWrite
	}
	rule := Rule{}
	if d.rules != nil {
		rule = d.rules.Rule(h.Slot, name, h.Rule)
	}
	dec := &event.Decision{
		Control: name, Effect: rule.Effect, Outcome: outcome(h.Outcome), Audit: rule.Audit,
		Policy: rule.Policy, Rule: rule.Source, Generation: rule.Generation,
		Mechanism: mechanism(h.Mechanism),
	}
	if detection != "" {
		dec.Rule, dec.Policy, dec.Audit = detection, "", false
		dec.Effect = ""
	}
	if dec.Effect == "" {
		dec.Effect = effect(h.Mode)
	}
	dec.Why = sentence(why(name), h)
	if h.Shared != 0 && h.Outcome == bpf.OutcomeKilled {
		// Whoever lives on can go on with what was opened: the act was not
		// stopped, and only the end of them all does that.
		dec.Outcome, dec.Effect = event.Detected, event.EffectStop
	}
	e.Decision = dec
}

// sentence ends with what was done.
func sentence(why string, h *bpf.Head) string {
	switch {
	case h.Outcome == bpf.OutcomePrevented && h.Mechanism == bpf.MechanismLSM && h.Kind == bpf.KindExec:
		why += "; the kernel refused to start it"
	case h.Outcome == bpf.OutcomePrevented:
		why += "; it was refused"
	case h.Outcome == bpf.OutcomeKilled && h.Mechanism == bpf.MechanismExecKill:
		why += "; it was killed before its first instruction"
	case h.Outcome == bpf.OutcomeKilled && h.Shared != 0:
		why += "; the process was killed when its call returned, but another one has the same descriptors and may use what it opened"
	case h.Outcome == bpf.OutcomeKilled:
		why += "; the process was killed when its call returned"
	default:
		why += "; it was only recorded"
	}
	if h.Repeats > 0 {
		why += fmt.Sprintf(" (and %d times more since)", h.Repeats)
	}
	return why + "."
}

func whyExec(c event.Control, x *event.Exec, flags uint32) string {
	path := x.Path
	if flags&bpf.ExecPathTruncated != 0 {
		path = "a program whose path is too long to be judged (…" + path + ")"
	}
	switch c {
	case event.ControlDrift:
		if x.Upper {
			return path + " was not in the image: it was written to the container's layer"
		}
		if !x.Modified && flags&bpf.ExecLoader != 0 {
			return path + ", the dynamic loader, was told to run a program, which passes by every check of programs (name it in run.exec.allow where that is wanted)"
		}
		return path + " was written or changed after the container started"
	case event.ControlFileless:
		return path + " has no file in any folder: a program that lives in memory only"
	case event.ControlDetection:
		if x.ByKernel {
			return path + ", a file of a container, was run by the host's kernel itself, as root"
		}
		return path + " was started with a network connection as its input and output"
	}
	if flags&bpf.ExecPathForeign != 0 {
		return path + " is not below the container's root"
	}
	return path + " is a program that policy does not allow"
}

func whyFile(c event.Control, f *event.File) string {
	switch c {
	case event.ControlDrift:
		return f.Path + " was written or changed after the container started, and the dynamic loader was told to run it"
	case event.ControlFileRead:
		return "policy does not let " + f.Path + " be opened"
	case event.ControlFileWrite:
		return "policy does not let " + f.Path + " be " + changed(f.Act)
	}
	return fmt.Sprintf("%s was opened for writing from inside a container", f.Path)
}

// changed is what happened to a file, in a sentence.
func changed(act string) string {
	words := map[string]string{
		"create": "created", "remove": "removed", "rename": "renamed or replaced", "link": "linked",
		"truncate": "truncated", "mode": "given other permissions", "owner": "given another owner",
	}
	if word := words[act]; word != "" {
		return word
	}
	return "opened for writing"
}

func whyNetwork(c event.Control, kind event.Kind, n *event.Network) string {
	switch {
	case c == event.ControlDetection:
		return "a container engine's socket was used from inside a container"
	case kind == event.KindSocket:
		return fmt.Sprintf("a %s socket would pass the network policy by", socketName(n))
	}
	return "policy does not allow " + peer(n)
}

func socketName(n *event.Network) string {
	if n.Family == "packet" {
		return "packet"
	}
	if n.Transport == "" {
		return n.Family
	}
	return n.Transport
}

func effect(mode uint8) event.Effect {
	switch mode {
	case bpf.ModeBlock:
		return event.EffectBlock
	case bpf.ModeKill:
		return event.EffectKill
	}
	return event.EffectAlert
}

func outcome(o uint8) event.Outcome {
	switch o {
	case bpf.OutcomePrevented:
		return event.Prevented
	case bpf.OutcomeKilled:
		return event.Killed
	}
	return event.Detected
}

func mechanism(m uint8) string {
	switch m {
	case bpf.MechanismExecKill:
		return "exec-kill"
	case bpf.MechanismLSM:
		return "lsm"
	case bpf.MechanismCgroup:
		return "cgroup"
	case bpf.MechanismSyscallKill:
		return "syscall-kill"
	case bpf.MechanismFanotify:
		return "fanotify"
	}
	return ""
}
