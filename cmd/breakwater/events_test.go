package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// found reads lines of JSON of `events` or `detections replay`.
func found(t *testing.T, out string) (all []event.Event) {
	t.Helper()
	for text := range strings.Lines(out) {
		var l struct{ Event event.Event }
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, l.Event)
	}
	return all
}

const oddTouch = `apiVersion: breakwater/v1
kind: Detection
id: odd-touch
title: Odd touch
severity: low
description: A test.
attack: [T1059]
events: [exec]
when: process.args.exists(a, a == "/w/odd")
sentence: "{exec} was run in {container}"
effect: alert
mustFire:
  - {kind: exec, process: {pid: 2, args: [touch, /w/odd]}, exec: {path: /bin/busybox}}
mustNotFire:
  - {kind: exec, process: {pid: 2, args: [touch, /w/even]}, exec: {path: /bin/busybox}}
`

// TestEventsAreKept: what a container did is found again by a condition, from the
// server and from the disk, after a kill too, while it happens, and by a detection
// that is not enabled.
func TestEventsAreKept(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	h.engine.MustRun(t, "exec", "web", "/bin/touch", "/w/odd")
	const where = `kind == "exec" && container.name == "web" && process.args.exists(a, a == "/w/odd")`
	var got []event.Event
	hunt := func(args ...string) []event.Event {
		t.Helper()
		out, errs, code := h.run(append([]string{"events", "--format=json", "--since=1h", "--where=" + where}, args...)...)
		if code != exitOK || !strings.Contains(errs, "events read, the oldest of") {
			t.Fatalf("events %v: %d %s %s", args, code, out, errs)
		}
		return found(t, out)
	}
	h.until("the server finds it", func() bool { got = hunt(); return len(got) == 1 })
	if e := got[0]; e.Container.Image.Name() == "" || e.Process.PID == 0 || e.Exec.Path == "" {
		t.Errorf("%+v", e)
	}
	if list := hunt("--local"); len(list) != 1 || list[0].Key != got[0].Key {
		t.Errorf("from the disk: %+v", list)
	}
	h.kill()
	if list := hunt("--local"); len(list) != 1 {
		t.Errorf("without an agent: %+v", list)
	}
	if _, errs, code := h.run("events", "--where="+where); code != exitUnreachable {
		t.Errorf("without a server: %d %s", code, errs)
	}
	h.start("--gate=no")
	h.until("it is found again after a kill", func() bool { return len(hunt()) == 1 })

	// Live: what is done from now on, and nothing else.
	live := startProgram(t, "events", "--follow", "--data="+h.data, "--where=kind == 'exec' && process.args.exists(a, a.startsWith('/w/live'))")
	n := 0
	h.until("a follower hears of it", func() bool {
		n++ // the same again might only be counted
		h.engine.Run("exec", "web", "/bin/touch", fmt.Sprintf("/w/live%d", n))
		return strings.Contains(live.said(), `touch /w/live`)
	})
	live.signal(syscall.SIGINT)
	if code := live.wait(10 * time.Second); code != exitOK {
		t.Errorf("a follower that is ended: %d %s", code, live.said())
	}

	file := filepath.Join(t.TempDir(), "odd.yaml")
	if err := os.WriteFile(file, []byte(oddTouch), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := h.run("detections", "test", file); code != exitOK || !strings.Contains(out, "1 detection, right") {
		t.Errorf("test: %d %s %s", code, out, errs)
	}
	for _, from := range [][]string{nil, {"--local"}} {
		out, errs, code := h.run(append([]string{"detections", "replay", file}, from...)...)
		if code != exitOK || !strings.Contains(out, "odd-touch") || !strings.Contains(out, "/w/odd") || strings.Contains(out, "/w/live") {
			t.Errorf("replay %v: %d %s %s", from, code, out, errs)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Replace(oddTouch, "/w/even", "/w/odd", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := h.run("detections", "test", file); code != exitRefused || !strings.Contains(errs, "must not fire") {
		t.Errorf("a detection that fires where it must not: %d %s", code, errs)
	}
	for _, bad := range []string{"nonsense", "exec.nothing == 1", "1 + 1", `exec.path == "`} {
		if _, errs, code := h.run("events", "--where="+bad); code != exitUsage || !strings.Contains(errs, "where:1:") {
			t.Errorf("--where=%s: %d %s", bad, code, errs)
		}
	}
}
