package detect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

const counting = `apiVersion: breakwater/v1
kind: Detection
id: many-ports
title: Many ports
severity: medium
description: Somebody tried many.
attack: [T1046]
events: [connect]
effect: kill
when: network.transport == "tcp"
count: {of: network.port, by: [network.address], moreThan: 3, within: 10s}
sentence: "{program} in {container} tried more than {count} ports of {address} within {within}"
mustFire:
  - {times: 4, every: 3s, vary: network.port, event: {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 1}}}
mustNotFire:
  - {times: 3, vary: network.port, event: {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 1}}}
  - {times: 9, every: 4s, vary: network.port, event: {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 1}}}
  - - {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 80}}
    - {times: 9, vary: network.address, event: {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 80}}}
    - {times: 3, vary: network.port, event: {kind: connect, network: {family: inet, transport: tcp, address: 192.0.2.99, port: 90}}}
    - {times: 9, vary: network.port, event: {kind: connect, network: {family: inet, transport: udp, address: 192.0.2.1, port: 80}}}
`

func countingEngine(t *testing.T) *detect.Engine {
	t.Helper()
	rules, err := loadText(counting)
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Check(); err != nil {
		t.Fatal(err)
	}
	return detect.NewEngine(rules)
}

// connect is an attempt of one container, n milliseconds after the first.
func connect(id, address string, port int, after time.Duration) event.Event {
	return event.Event{
		Key: fmt.Sprint(id, address, port, after), Kind: event.KindConnect, Time: at.Add(after), Host: "h",
		Container: &event.Container{ID: id, Name: id}, Process: &event.Process{ID: "9-1", PID: 9, Path: "/tmp/x"},
		Network: &event.Network{Family: "inet", Transport: "tcp", Address: address, Port: port},
	}
}

func TestManyEventsAreOneIncident(t *testing.T) {
	engine := countingEngine(t)
	var told []event.Incident
	for p := range 4_000 {
		told = append(told, engine.Event(connect("web", "192.0.2.1", p+1, time.Duration(p)*time.Millisecond), policy.Run{}, nil)...)
	}
	// A thousand times as many as it lets pass: told the first, tenth, hundredth, thousandth time.
	if len(told) != 4 {
		t.Fatalf("%d incidents", len(told))
	}
	if want := "`/tmp/x` in `web` tried more than 3 ports of `192.0.2.1` within 10 s; it was recorded."; told[0].Sentence != want {
		t.Errorf("%s", told[0].Sentence)
	}
	if !strings.Contains(told[3].Sentence, "899 times more") {
		t.Errorf("%s", told[3].Sentence)
	}
}

// TestCountedApart: containers, and what a detection counts by, have counts of
// their own; what is too old, or the same value again, does not count.
func TestCountedApart(t *testing.T) {
	engine := countingEngine(t)
	fired := func(ev event.Event) bool { return len(engine.Event(ev, policy.Run{}, nil)) > 0 }
	for p := 1; p <= 3; p++ {
		for _, id := range []string{"a", "b"} {
			for _, address := range []string{"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1"} { // the last is the first
				if fired(connect(id, address, p, time.Duration(p)*time.Second)) {
					t.Fatalf("%s %s %d", id, address, p)
				}
			}
		}
	}
	if fired(connect("a", "192.0.2.1", 4, 12*time.Second)) { // the first is 11 s old
		t.Error("counted together with what is too old")
	}
	if !fired(connect("a", "::ffff:192.0.2.1", 5, 12*time.Second)) { // 2 and 3 are not
		t.Error("four within the time: not told")
	}
	if fired(connect("c", "192.0.2.1", 4, 3*time.Second)) {
		t.Error("a container that did nothing")
	}
	if !fired(connect("b", "192.0.2.2", 4, 3*time.Second)) {
		t.Error("the other container")
	}
}

// TestCountingSurvivesTheClock: a clock that goes back an hour silences nothing.
func TestCountingSurvivesTheClock(t *testing.T) {
	engine := countingEngine(t)
	engine.Event(connect("a", "192.0.2.1", 1, 0), policy.Run{}, nil)
	n := 0
	for p := 2; p <= 5; p++ {
		n += len(engine.Event(connect("a", "192.0.2.1", p, -time.Hour), policy.Run{}, nil))
	}
	if n != 1 {
		t.Errorf("%d incidents", n)
	}
}

// TestNobodyMakesOthersForgotten: a container that fills its room for counts takes
// none of another one's, and what is counted stays bounded.
func TestNobodyMakesOthersForgotten(t *testing.T) {
	engine := countingEngine(t)
	kill := guarded(t, "run: {detections: {enable: [many-ports]}}\n") // told each time
	for p := 1; p <= 3; p++ {
		engine.Event(connect("quiet", "192.0.2.1", p, 0), kill, nil)
	}
	for i := range 140_000 { // more values than are remembered of all
		engine.Event(connect("loud", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), 1, time.Second), kill, nil)
	}
	one(t, engine.Event(connect("quiet", "192.0.2.1", 4, time.Second), kill, nil))
	for i := range 3_000 { // more containers than are remembered
		engine.Event(connect(fmt.Sprint("c", i), "192.0.2.1", 1, time.Second), kill, nil)
	}
	for p := 1; p <= 3; p++ {
		if len(engine.Event(connect("quiet", "192.0.2.1", p, time.Second), kill, nil)) != 0 {
			t.Error("told with less than there must be")
		}
	}
	one(t, engine.Event(connect("quiet", "192.0.2.1", 4, time.Second), kill, nil))
}

// TestCountsRespond: policy decides about what counts fire on as about anything else.
func TestCountsRespond(t *testing.T) {
	engine := countingEngine(t)
	run := guarded(t, "run: {detections: {enable: [many-ports]}}\n")
	off := guarded(t, "run: {detections: {enable: ['*'], disable: [many-ports]}}\n")
	for p := 1; p <= 8; p++ {
		if got := engine.Event(connect("off", "192.0.2.1", p, 0), off, nil); len(got) != 0 {
			t.Errorf("switched off: %+v", got)
		}
		got := engine.Event(connect("on", "192.0.2.1", p, 0), run, nil)
		if p%4 != 0 {
			if len(got) != 0 {
				t.Errorf("after %d: %+v", p, got)
			}
			continue
		}
		if d := one(t, got).Decision; d.Effect != event.EffectKill || d.Audit {
			t.Errorf("%+v", d)
		}
	}
}

func TestMistakesInCounts(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		text := strings.Replace(counting, old, new, 1)
		if text == counting {
			t.Fatalf("%q is not in the file", old)
		}
		rules, err := loadText(text)
		if err == nil {
			err = rules.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got\n%v\nwant %s", new, err, want)
		}
	}
	f("events: [connect]", "events: [exec]", "cannot count exec events: the kernel tells only those that are new")
	f("events: [connect]", "events: [connect, file_open]", "cannot count file_open events")
	f("of: network.port", "of: process.path", `a.yaml:11:13: count.of: "process.path" is none of process, network.address`)
	f("of: network.port, ", "", "a.yaml:11:8: count.of: is missing")
	f("by: [network.address]", "by: [network.port]", "there is never more than one")
	f("moreThan: 3", "moreThan: 0", "0 is not a whole number from 1 to 2000")
	f("moreThan: 3", "moreThan: 30", "many-ports does not fire")
	f("within: 10s", "within: 1h", `"1h" is not a time from 1s to 10m`)
	f("within: 10s", "within: soon", `"soon" is not a time`)
	f("within: 10s", "within: 9m", "many-ports must not fire")
	f("by: [network.address]", "by: []", "many-ports must not fire")
	f("effect: kill", "effect: kill\nkernel: bpf", "names a mechanism in the kernel (bpf)")
	f("times: 4, ", "times: 6000, ", "6000 is not a whole number from 1 to 5000")
	f("every: 3s", "every: -3s", `"-3s" is not a time from 0s to 1h`)
	f("vary: network.port", "vary: colour", `"colour" is none of`)
	f("family: inet", "famly: inet", `unknown field "famly"`)
}
