package detect_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// guarded is the run section of a policy that responds to detections.
func guarded(t testing.TB, text string) policy.Run {
	t.Helper()
	policies, err := policy.Parse("p.yaml", []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: web}\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet(3, policies)
	if err != nil {
		t.Fatal(err)
	}
	return set.Run(at, policy.Subject{})
}

func container() *event.Container {
	return &event.Container{ID: "0123456789abcdef", Name: "web-1", Image: event.Image{References: []string{"web:1"}}}
}

func reverseShell(key string) event.Event {
	return event.Event{
		Key: key, Kind: event.KindExec, Time: at, Host: "h", Container: container(),
		Process: &event.Process{ID: "42-1", PID: 42, Comm: "sh", Path: "/bin/dash"},
		Exec:    &event.Exec{Path: "/bin/dash", StdinSocket: true, StdoutSocket: true},
	}
}

func miner(key string) event.Event {
	return event.Event{
		Key: key, Kind: event.KindFlow, Time: at, Host: "h", Container: container(),
		Process: &event.Process{ID: "43-1", PID: 43, Comm: "xmrig", Path: "/tmp/xmrig"},
		Network: &event.Network{Family: "inet", Address: "192.0.2.7", Port: 3333, Head: `{"method": "mining.subscribe"}`},
	}
}

func one(t *testing.T, incidents []event.Incident) event.Incident {
	t.Helper()
	if len(incidents) != 1 {
		t.Fatalf("%d incidents, want 1: %+v", len(incidents), incidents)
	}
	return incidents[0]
}

func TestTheStoryOfAnIncident(t *testing.T) {
	engine := detect.NewEngine(load(t))
	ev := reverseShell("k1")
	ev.Decision = &event.Decision{Control: event.ControlDetection, Rule: "reverse-shell", Effect: event.EffectKill, Outcome: event.Killed, Mechanism: "exec-kill"}
	tree := []event.Process{{PID: 1, Path: "/usr/sbin/nginx"}, *ev.Process}
	inc := one(t, engine.Event(ev, policy.Run{}, tree))
	if want := "`/bin/dash` was started in `web-1` with a network connection as its input and output: a reverse shell; Breakwater killed it before its first instruction."; inc.Sentence != want {
		t.Errorf("sentence: %s", inc.Sentence)
	}
	if inc.Key != "k1/reverse-shell" || inc.Detection != "reverse-shell" || !inc.AlwaysOn || inc.Severity != event.SeverityCritical || inc.Host != "h" || len(inc.Tree) != 2 || len(inc.Attack) == 0 {
		t.Errorf("incident: %+v", inc)
	}
	if d := inc.Decision; d.Outcome != event.Killed || d.Mechanism != "exec-kill" || d.Audit || d.Why == "" || d.Rule != "reverse-shell" {
		t.Errorf("decision: %+v", d)
	}
	if _, err := json.Marshal(inc); err != nil {
		t.Error(err)
	}
}

// What the kernel could not stop, because a second process holds the descriptor
// too, is told so and ends the container, whatever the rule's own effect is.
func TestSharedDescriptorStopsTheContainer(t *testing.T) {
	ev := event.Event{
		Key: "k", Kind: event.KindConnect, Time: at, Container: container(), Process: &event.Process{PID: 3, Path: "/bin/x"},
		Network: &event.Network{Family: "unix", Path: "/run/docker.sock"},
		Decision: &event.Decision{
			Control: event.ControlDetection, Rule: "container-socket", Effect: event.EffectStop, Outcome: event.Detected, Mechanism: "syscall-kill",
		},
	}
	for _, run := range []policy.Run{{}, guarded(t, "run: {detections: {effect: alert}}")} {
		inc := one(t, detect.NewEngine(load(t)).Event(ev, run, nil))
		if d := inc.Decision; d.Effect != event.EffectStop || d.Outcome != event.Detected || d.Audit || !strings.Contains(inc.Sentence, "another one has the same descriptors") {
			t.Errorf("%+v: %s", d, inc.Sentence)
		}
	}
}

func TestTheSameEventGivesTheSameIncident(t *testing.T) {
	first := detect.NewEngine(load(t)).Event(miner("k"), policy.Run{}, nil)
	second := detect.NewEngine(load(t)).Event(miner("k"), policy.Run{}, nil)
	if !reflect.DeepEqual(first, second) {
		t.Errorf("%+v\n%+v", first, second)
	}
}

// What the caller is to do, by policy and by what the kernel did.
func TestEffects(t *testing.T) {
	responding := "run: {detections: {enable: [\"*\"], effect: {critical: stop, high: kill}}}"
	for _, c := range []struct {
		name    string
		ev      event.Event
		run     policy.Run
		effect  event.Effect
		outcome event.Outcome
		audit   bool
	}{
		{"no policy: recorded", miner("a"), policy.Run{}, event.EffectAlert, event.Detected, false},
		{"no policy, always on: its own effect", reverseShell("b"), policy.Run{}, event.EffectKill, event.Detected, false},
		{"policy without detections: recorded", miner("c"), guarded(t, "run: {exec: {drift: block}}"), event.EffectAlert, event.Detected, false},
		{"policy responds by severity", miner("d"), guarded(t, responding), event.EffectKill, event.Detected, false},
		{"policy is stricter than the rule", reverseShell("e"), guarded(t, responding), event.EffectStop, event.Detected, false},
		{"audit mode records what it would do", miner("f"), guarded(t, "mode: audit\n"+responding), event.EffectKill, event.Detected, true},
		{"audit mode does not lift what is always on", reverseShell("g"), guarded(t, "mode: audit\n"+responding), event.EffectStop, event.Detected, false},
		{"the kernel acted for another reason", killedFor(reverseShell("h"), event.ControlDrift), policy.Run{}, event.EffectKill, event.Killed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			incidents := detect.NewEngine(load(t)).Event(c.ev, c.run, nil)
			inc := incidents[len(incidents)-1]
			if d := inc.Decision; d.Effect != c.effect || d.Outcome != c.outcome || d.Audit != c.audit {
				t.Errorf("effect %s, outcome %s, audit %v; want %s, %s, %v", d.Effect, d.Outcome, d.Audit, c.effect, c.outcome, c.audit)
			}
		})
	}
}

func killedFor(ev event.Event, control event.Control) event.Event {
	ev.Decision = &event.Decision{Control: control, Effect: event.EffectKill, Outcome: event.Killed, Mechanism: "exec-kill", Policy: "web"}
	return ev
}

func TestSwitchedOff(t *testing.T) {
	engine := detect.NewEngine(load(t))
	if got := engine.Event(miner("a"), guarded(t, "run: {detections: {disable: [miner-handshake]}}"), nil); len(got) != 0 {
		t.Errorf("a disabled detection fired: %+v", got)
	}
	waived := guarded(t, "waivers: [{detection: reverse-shell, reason: inetd, expires: 2026-12-01}]")
	if got := engine.Event(reverseShell("b"), waived, nil); len(got) != 0 {
		t.Errorf("a waived detection fired: %+v", got)
	}
	expired := guarded(t, "waivers: [{detection: reverse-shell, reason: inetd, expires: 2026-11-21}]")
	one(t, engine.Event(reverseShell("c"), expired, nil))
	// What the kernel did all the same is told.
	ev := reverseShell("d")
	ev.Decision = &event.Decision{Control: event.ControlDetection, Rule: "reverse-shell", Outcome: event.Killed}
	one(t, detect.NewEngine(load(t)).Event(ev, waived, nil))
	ev.Decision.Outcome = event.Detected // what it only saw is not
	if got := detect.NewEngine(load(t)).Event(ev, waived, nil); len(got) != 0 {
		t.Errorf("a waived detection fired: %+v", got)
	}
}

func TestPolicyDecisionsBecomeIncidents(t *testing.T) {
	exec := func(x event.Exec, d event.Decision) event.Event {
		return event.Event{Key: "k", Kind: event.KindExec, Time: at, Container: container(), Process: &event.Process{PID: 3, Comm: "x"}, Exec: &x, Decision: &d}
	}
	connect := func(d event.Decision) event.Event {
		return event.Event{Key: "k", Kind: event.KindConnect, Time: at, Container: container(), Process: &event.Process{PID: 3, Path: "/usr/bin/curl"},
			Network: &event.Network{Family: "inet6", Address: "2001:db8::1", Port: 443}, Decision: &d}
	}
	observing := detect.NewEngine(load(t)).Event(reverseShell("k"), policy.Run{Observe: true, Audit: true}, nil)
	if inc := one(t, observing); !strings.HasSuffix(inc.Sentence, "; it was only recorded.") {
		t.Errorf("where the agent only observes: %s", inc.Sentence)
	}
	tree := []event.Process{{Path: "/bin/sh"}, {Path: "/tmp/xmrig"}}
	for _, c := range []struct {
		ev    event.Event
		title string
		want  string
	}{
		{exec(event.Exec{Path: "/tmp/xmrig", Upper: true}, event.Decision{Control: event.ControlDrift, Effect: event.EffectKill, Outcome: event.Killed, Mechanism: "exec-kill"}),
			"Program that was not in the image", "`/tmp/xmrig` was written into `web-1` after it started, then run by `/bin/sh`; Breakwater killed it before its first instruction."},
		{event.Event{Key: "k", Kind: event.KindFileOpen, Time: at, Container: container(), Process: &event.Process{PID: 3, Path: "/lib/ld.so"}, File: &event.File{Path: "/tmp/xmrig"},
			Decision: &event.Decision{Control: event.ControlDrift, Effect: event.EffectKill, Outcome: event.Killed, Mechanism: "syscall-kill"}},
			"Program that was not in the image", "`/tmp/xmrig` was written into `web-1` after it started, then given to the dynamic loader to run by `/bin/sh`; Breakwater killed the process."},
		{exec(event.Exec{Path: "/tmp/xmrig"}, event.Decision{Control: event.ControlExec, Effect: event.EffectBlock, Outcome: event.Prevented, Mechanism: "lsm"}),
			"Program outside policy", "`/tmp/xmrig`, which policy does not allow, was run in `web-1` by `/bin/sh`; Breakwater refused it."},
		{exec(event.Exec{Path: "memfd:x", Fileless: true}, event.Decision{Control: event.ControlFileless, Effect: event.EffectKill, Outcome: event.Detected, Audit: true}),
			"Program without a file", "A program that lives in memory only (`memfd:x`) was run in `web-1` by `/bin/sh`; policy only records this here."},
		{event.Event{Key: "k", Kind: event.KindFileOpen, Time: at, Container: container(), Process: &event.Process{PID: 3, Path: "/bin/sh"},
			File: &event.File{Path: "/etc/app", Write: true, Act: "remove"}, Decision: &event.Decision{Control: event.ControlFileWrite, Effect: event.EffectBlock, Outcome: event.Prevented, Mechanism: "lsm"}},
			"Change outside policy", "`/bin/sh` in `web-1` removed `/etc/app`, which policy does not allow; Breakwater refused it."},
		{event.Event{Key: "k", Kind: event.KindFileOpen, Time: at, Container: container(), Process: &event.Process{PID: 3, Path: "/bin/sh"},
			File: &event.File{Path: "/root/key"}, Decision: &event.Decision{Control: event.ControlFileRead, Effect: event.EffectAlert, Outcome: event.Detected}},
			"Reading outside policy", "`/bin/sh` in `web-1` opened `/root/key`, which policy denies; it was recorded."},
		{connect(event.Decision{Control: event.ControlNetwork, Effect: event.EffectBlock, Outcome: event.Prevented, Mechanism: "cgroup"}),
			"Connection outside policy", "`/usr/bin/curl` in `web-1` tried to reach `[2001:db8::1]:443`, which policy does not allow; Breakwater refused the connection."},
	} {
		inc := one(t, detect.NewEngine(load(t)).Event(c.ev, policy.Run{}, tree))
		if inc.Title != c.title || inc.Sentence != c.want {
			t.Errorf("%s: %s\nwant %s: %s", inc.Title, inc.Sentence, c.title, c.want)
		}
		if inc.Detection != "" || inc.Decision.Why == "" {
			t.Errorf("%+v", inc)
		}
	}
}

func TestAuditedPoliciesBesideEnforcingOnes(t *testing.T) {
	policies, err := policy.Parse("p.yaml", []byte(`
apiVersion: breakwater/v1
kind: Policy
metadata: {name: enforced}
run:
  exec: {allow: ["/usr/**"]}
  network: {egress: [{to: 10.0.0.0/8}]}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: draft}
mode: audit
run:
  exec: {drift: kill, allow: ["/usr/bin/nginx"]}
  network: {egress: []}
`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet(1, policies)
	if err != nil {
		t.Fatal(err)
	}
	run := set.Run(at, policy.Subject{})
	engine := detect.NewEngine(load(t))
	ev := event.Event{Key: "k", Kind: event.KindExec, Time: at, Container: container(), Exec: &event.Exec{Path: "/usr/bin/curl"}}
	inc := one(t, engine.Event(ev, run, nil))
	if d := inc.Decision; d.Policy != "draft" || !d.Audit || d.Outcome != event.Detected || d.Control != event.ControlExec || inc.Key != "k/audit.exec" {
		t.Errorf("%+v", inc)
	}
	ev.Exec = &event.Exec{Path: "/usr/bin/nginx"}
	if got := engine.Event(ev, run, nil); len(got) != 0 {
		t.Errorf("what both allow: %+v", got)
	}
	ev.Kind, ev.Exec, ev.Network = event.KindConnect, nil, &event.Network{Family: "inet", Address: "10.1.1.1", Port: 80}
	if inc := one(t, engine.Event(ev, run, nil)); inc.Decision.Control != event.ControlNetwork || inc.Decision.Policy != "draft" {
		t.Errorf("%+v", inc)
	}
}

func TestRepeatsAreCountedNotTold(t *testing.T) {
	engine := detect.NewEngine(load(t))
	told := 0
	for i := range 500 {
		ev := miner(fmt.Sprint(i))
		ev.Time = at.Add(time.Duration(i) * time.Millisecond)
		told += len(engine.Event(ev, policy.Run{}, nil))
	}
	if told != 3 { // the 1st, 10th and 100th
		t.Errorf("%d incidents of 500 equal events, want 3", told)
	}
	later := miner("later")
	later.Time = at.Add(time.Hour)
	if inc := one(t, engine.Event(later, policy.Run{}, nil)); !strings.Contains(inc.Sentence, "400 times more") {
		t.Errorf("sentence: %s", inc.Sentence)
	}
	other := miner("other")
	other.Container = &event.Container{ID: "fedcba"}
	one(t, engine.Event(other, policy.Run{}, nil))
	back := miner("back") // the clock went back
	back.Time = at.Add(-time.Hour)
	one(t, engine.Event(back, policy.Run{}, nil))
}

// An incident that the agent has to act on is told every time.
func TestRepeatsThatNeedAResponseAreTold(t *testing.T) {
	engine := detect.NewEngine(load(t))
	for i := range 3 {
		if inc := one(t, engine.Event(reverseShell(fmt.Sprint(i)), policy.Run{}, nil)); inc.Decision.Effect != event.EffectKill {
			t.Errorf("%+v", inc.Decision)
		}
	}
}

func TestSentencesHoldNoAttackersFormatting(t *testing.T) {
	ev := reverseShell("k")
	ev.Exec.Path = "/tmp/`rm -rf`\n\x1b[31m\u202e" + strings.Repeat("x", 5_000)
	ev.Container.Name = "a\r\nb"
	inc := one(t, detect.NewEngine(load(t)).Event(ev, policy.Run{}, nil))
	if strings.ContainsAny(inc.Sentence, "\n\r\x1b\u202e") || len(inc.Sentence) > 600 {
		t.Errorf("sentence: %q", inc.Sentence)
	}
}

func TestWhatTheHostCannotDoIsSaid(t *testing.T) {
	ev := reverseShell("k")
	ev.Exec = &event.Exec{Path: "/tmp/x", Upper: true}
	ev.Decision = &event.Decision{Control: event.ControlDrift, Effect: event.EffectBlock, Outcome: event.Killed, Mechanism: "exec-kill", Why: "It was not in the image."}
	inc := one(t, detect.NewEngine(load(t)).Event(ev, policy.Run{}, nil))
	if want := "It was not in the image. Policy wants it blocked; this host can only kill."; inc.Decision.Why != want {
		t.Errorf("why: %s", inc.Decision.Why)
	}
}

func TestTheMetadataServiceHasAnIncidentOfItsOwn(t *testing.T) {
	ev := miner("k")
	ev.Kind = event.KindConnect
	ev.Network = &event.Network{Family: "inet", Address: "169.254.169.254", Port: 80}
	ev.Decision = &event.Decision{Control: event.ControlNetwork, Effect: event.EffectBlock, Outcome: event.Prevented, Mechanism: "cgroup"}
	inc := one(t, detect.NewEngine(load(t)).Event(ev, policy.Run{}, nil))
	if inc.Severity != event.SeverityHigh || !strings.Contains(inc.Sentence, "credentials; Breakwater refused the connection.") {
		t.Errorf("%s: %s", inc.Title, inc.Sentence)
	}
}

func TestConcurrentUse(t *testing.T) {
	engine := detect.NewEngine(load(t))
	var told atomic.Int64
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 200 {
				told.Add(int64(len(engine.Event(miner(fmt.Sprint(worker, i)), policy.Run{}, nil))))
			}
		})
	}
	group.Wait()
	if n := told.Load(); n != 3 { // the 1st, 10th and 100th of 800
		t.Errorf("%d incidents of equal events, want 3", n)
	}
}

func TestEventsWithoutDetails(t *testing.T) {
	engine := detect.NewEngine(load(t))
	for _, kind := range []event.Kind{event.KindExec, event.KindFileOpen, event.KindConnect, event.KindFlow, event.KindSocket, event.KindAgent, event.KindGate, "new"} {
		for _, control := range []event.Control{"", event.ControlDrift, event.ControlNetwork, event.ControlDetection, "new"} {
			ev := event.Event{Key: "k", Kind: kind, Decision: &event.Decision{Control: control, Rule: "nobody"}}
			engine.Event(ev, policy.Run{Audited: &policy.Run{Drift: policy.Switch{On: true}}}, nil)
		}
	}
}

func BenchmarkEvent(b *testing.B) {
	engine := detect.NewEngine(load(b))
	exec := reverseShell("k")
	exec.Exec = &event.Exec{Path: "/usr/bin/true"}
	for _, c := range []struct {
		name string
		ev   event.Event
	}{
		{"no rule for the kind", event.Event{Kind: event.KindFork, Container: container()}},
		{"exec that matches nothing", exec},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(engine.Event(c.ev, policy.Run{}, nil)) != 0 {
					b.Fatal("an incident")
				}
			}
		})
	}
}
