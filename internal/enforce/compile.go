package enforce

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// compilerVersion goes into the content of a slot: a compiler that would write
// other rules for the same policy must not take up the old slot.
const compilerVersion = 4

// compiled is a policy in the form of the kernel's maps. Rule numbers count
// from 1 in the order of names.
type compiled struct {
	slot     bpf.Slot
	paths    []pathEntry
	files    []pathEntry
	networks []netEntry
	exec     []policy.PathRule // by rule number less 1
	fileOf   []policy.PathRule // of rules about files, likewise
	peers    []policy.PeerRule
	run      policy.Run
}

func compile(run policy.Run) (*compiled, error) {
	content, err := json.Marshal(struct {
		Compiler int
		Run      policy.Run
	}{compilerVersion, run})
	if err != nil {
		return nil, fmt.Errorf("compile policy: %w", err)
	}
	c := &compiled{run: run, slot: sensor.AlwaysOn()}
	c.slot.Generation = run.Generation
	c.slot.Content = sha256.Sum256(content)
	c.modes(run)
	if c.paths, c.exec, err = compilePaths(run.Exec); err != nil {
		return nil, err
	}
	if c.files, c.fileOf, err = compileFiles(run); err != nil {
		return nil, err
	}
	if c.networks, c.peers, err = compileNetwork(run.Network); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *compiled) modes(run policy.Run) {
	s := &c.slot
	s.Mode[bpf.ControlDrift] = switchMode(run.Drift, run.Audit)
	s.Mode[bpf.ControlFileless] = switchMode(run.Fileless, run.Audit)
	if x := run.Exec; x.Restrict || len(x.Deny) > 0 {
		s.Flags |= bpf.SlotExecRules
		s.Mode[bpf.ControlExec] = mode(x.Effect, x.Audit || run.Audit)
		if x.Restrict {
			s.Flags |= bpf.SlotExecRestrict
		}
	}
	if f := run.Files; f.Effect != "" {
		s.Flags |= bpf.SlotFileRules
		s.Mode[bpf.ControlFiles] = mode(f.Effect, f.Audit || run.Audit)
		s.Mode[bpf.ControlFilesAudited] = bpf.ModeDetect
	}
	if n := run.Network; n.Restrict || len(n.Deny) > 0 {
		s.Flags |= bpf.SlotNetRules
		s.Mode[bpf.ControlNetwork] = mode(n.Effect, n.Audit || run.Audit)
		if n.Restrict {
			s.Flags |= bpf.SlotNetRestrict
		}
	}
	s.Mode[bpf.ControlMiner] = minerMode(run)
	for _, w := range run.Waivers {
		if control, ok := alwaysOn(w.Detection); ok {
			s.Mode[control] = bpf.ModeOff
		}
	}
	if run.Observe {
		for i, m := range s.Mode {
			s.Mode[i] = min(m, bpf.ModeDetect)
		}
	}
}

// alwaysOn finds the control of an always-on detection.
func alwaysOn(detection string) (control int, ok bool) {
	switch detection {
	case sensor.DetectionReverseShell:
		return bpf.ControlReverseShell, true
	case sensor.DetectionReleaseAgent:
		return bpf.ControlReleaseAgent, true
	case sensor.DetectionCorePattern:
		return bpf.ControlCorePattern, true
	case sensor.DetectionEngineSocket:
		return bpf.ControlEngineSocket, true
	case sensor.DetectionHelper:
		return bpf.ControlHelper, true
	case sensor.DetectionModule:
		return bpf.ControlModule, true
	case sensor.DetectionBPF:
		return bpf.ControlBPF, true
	case sensor.DetectionHandle:
		return bpf.ControlHandle, true
	case sensor.DetectionDevice:
		return bpf.ControlDevice, true
	case sensor.DetectionForkBomb:
		return bpf.ControlForkBomb, true
	}
	return 0, false
}

// minerMode: stopped, which is the detection's own default, where an enforcing
// policy has detections respond and says nothing else; seen otherwise.
func minerMode(run policy.Run) uint8 {
	set, _ := run.Detection(sensor.DetectionMiner, event.SeverityHigh, false, event.EffectKill)
	if set.Disabled {
		return bpf.ModeOff
	}
	return mode(set.Effect, run.Audit || !run.Respond)
}

func switchMode(s policy.Switch, audit bool) uint8 {
	if !s.On {
		return bpf.ModeOff
	}
	return mode(s.Effect, s.Audit || audit)
}

// mode is what the kernel does for an effect; what is stricter than kill is
// the agent's to add. No effect means block.
func mode(e event.Effect, audit bool) uint8 {
	switch {
	case audit:
		return bpf.ModeDetect
	case e == "":
		return bpf.ModeBlock
	case e.Rank() >= event.EffectKill.Rank():
		return bpf.ModeKill
	case e.Rank() >= event.EffectBlock.Rank():
		return bpf.ModeBlock
	}
	return bpf.ModeDetect
}

// sortUnique sorts and drops doubles.
func sortUnique[T any](list []T, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b T) bool { return compare(a, b) == 0 })
}
