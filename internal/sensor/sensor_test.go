package sensor

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Records of another version's programs are told of, not lost in silence.
func TestUnreadableRecords(t *testing.T) {
	s := &Sensor{decoder: *testDecoder(), tree: newTree(8), familiar: newFamiliar(digests{}), watched: func(event.Kind) bool { return true }}
	var counts []uint64
	for range 100 {
		s.take([]byte{1, 2, 3}, func(e event.Event) bool {
			if e.Kind != event.KindAgent || e.Notice == nil || e.Notice.Code != event.NoticeUnreadable {
				t.Errorf("%+v", e)
				return false
			}
			counts = append(counts, e.Notice.Count)
			return false
		})
	}
	if len(counts) != 3 || counts[0] != 1 || counts[1] != 10 || counts[2] != 100 {
		t.Errorf("told at %v", counts)
	}
}

// Forks and exits that nobody looks at keep the tree all the same; everything
// else is handed on.
func TestUnwatchedKindsKeepTheTree(t *testing.T) {
	s := &Sensor{decoder: *testDecoder(), tree: newTree(8), familiar: newFamiliar(digests{}), watched: func(event.Kind) bool { return false }}
	told := map[event.Kind]int{}
	for kind, raw := range records() {
		s.take(raw, func(e event.Event) bool { told[e.Kind]++; return false })
		if quiet := kind == event.KindFork || kind == event.KindExit; (told[kind] == 0) != quiet {
			t.Errorf("%s was told %d times", kind, told[kind])
		}
	}
	if _, known := s.tree.get(processID(7, 4_000_000_000)); !known {
		t.Error("the tree does not know the process")
	}
}

// What the kernel decided about a fork is told though nobody looks at forks.
func TestForkBombsAreTold(t *testing.T) {
	s := &Sensor{decoder: *testDecoder(), tree: newTree(8), familiar: newFamiliar(digests{}), watched: func(event.Kind) bool { return false }}
	fork := &bpf.ForkEvent{Head: head(bpf.KindFork)}
	fork.Head.Control, fork.Head.Outcome, fork.Head.Mode = bpf.ControlForkBomb, bpf.OutcomeDetected, bpf.ModeDetect
	var told []event.Event
	s.take(bytesOf(fork), func(e event.Event) bool { told = append(told, e); return false })
	if len(told) != 1 || told[0].Fork == nil || !told[0].Fork.Bomb {
		t.Fatalf("%+v", told)
	}
	if d := told[0].Decision; d == nil || d.Rule != DetectionForkBomb || d.Effect != event.EffectAlert || !strings.Contains(d.Why, "processes more") {
		t.Errorf("%+v", d)
	}
}

// A descriptor that another process holds too is not told as stopped.
func TestSharedDescriptorIsNotStopped(t *testing.T) {
	r := &bpf.OpenEvent{Head: head(bpf.KindOpen), Write: 1}
	copy(r.Path[:], "/c/release_agent")
	r.Head.Control, r.Head.Mode = bpf.ControlReleaseAgent, bpf.ModeKill
	r.Head.Outcome, r.Head.Mechanism = bpf.OutcomeKilled, bpf.MechanismSyscallKill
	for shared, want := range map[uint8]event.Decision{
		0: {Outcome: event.Killed, Effect: event.EffectKill},
		1: {Outcome: event.Detected, Effect: event.EffectStop},
	} {
		r.Head.Shared = shared
		rec, err := testDecoder().decode(bytesOf(r))
		if err != nil {
			t.Fatal(err)
		}
		if d := rec.event.Decision; d.Outcome != want.Outcome || d.Effect != want.Effect {
			t.Errorf("shared %d: %+v", shared, d)
		}
	}
}
