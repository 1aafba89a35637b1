package detect_test

import (
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// fired are the detections that an engine tells of.
func fired(incidents []event.Incident) []string {
	var ids []string
	for _, inc := range incidents {
		if inc.Detection != "" {
			ids = append(ids, inc.Detection)
		}
	}
	return ids
}

func run(path, script, comm string, args ...string) event.Event {
	return event.Event{
		Key: "k", Kind: event.KindExec, Time: at, Container: container(),
		Process: &event.Process{ID: "7-1", PID: 7, Path: path, Comm: comm, Args: args},
		Exec:    &event.Exec{Path: path, Script: script},
	}
}

// A detection that names programs is asked about them by file, by script, by
// the name that they were called by, with and without a version, and about
// nothing else.
func TestProgramsAreAskedByTheirNames(t *testing.T) {
	engine := func() *detect.Engine { return detect.NewEngine(load(t)) }
	for _, c := range []struct {
		name  string
		event event.Event
		want  []string
	}{
		{"its file", run("/opt/x/xmrig", "", "xmrig"), []string{"miner-program"}},
		{"one of busybox's names", run("/bin/busybox", "", "tcpdump", "tcpdump", "-i", "any"), []string{"network-tool"}},
		{"its script", run("/usr/bin/python3.11", "/usr/bin/pip3", "pip3", "pip3", "install", "x"), []string{"package-manager"}},
		{"a version at its end", run("/usr/bin/x86_64-linux-gnu-gcc-12", "", "gcc", "gcc", "x.c"), []string{"compiler"}},
		{"a name that only ends like one", run("/usr/bin/axmrig", "", "axmrig"), nil},
		{"a folder of that name", run("/opt/xmrig/start", "", "start"), nil},
	} {
		if got := fired(engine().Event(c.event, guarded(t, ""), nil)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What policy decided about a program, or a peer, is told once: by policy.
func TestWhatPolicyToldIsNotToldTwice(t *testing.T) {
	fileless := run("memfd:x", "", "x")
	fileless.Exec.Fileless = true
	metadata := event.Event{
		Key: "k", Kind: event.KindConnect, Time: at, Container: container(), Process: &event.Process{ID: "8-1", PID: 8, Path: "/usr/bin/curl", Comm: "curl"},
		Network: &event.Network{Family: "inet", Transport: "tcp", Address: "169.254.169.254", Port: 80},
	}
	for _, c := range []struct {
		event   event.Event
		control event.Control
		id      string
	}{
		{fileless, event.ControlFileless, "fileless-program"},
		{run("/tmp/xmrig", "", "xmrig"), event.ControlExec, "miner-program"},
		{run("/tmp/xmrig", "", "xmrig"), event.ControlDrift, "miner-program"},
		{metadata, event.ControlNetwork, "metadata-by-hand"},
	} {
		alone := detect.NewEngine(load(t)).Event(c.event, guarded(t, ""), nil)
		if got := fired(alone); !slices.Equal(got, []string{c.id}) {
			t.Errorf("%s without policy: %v", c.id, got)
		}
		c.event.Decision = &event.Decision{Control: c.control, Effect: event.EffectKill, Outcome: event.Killed}
		decided := detect.NewEngine(load(t)).Event(c.event, guarded(t, ""), nil)
		if len(decided) != 1 || decided[0].Decision.Control != c.control {
			t.Errorf("%s under a policy of %s: %+v", c.id, c.control, decided)
		}
	}
}
