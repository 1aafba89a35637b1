package main

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// driftIncidents selects the incidents of programs that were not in the image.
func driftIncidents() url.Values { return url.Values{"text": {"/touch`"}} }

// TestUpGuardsThroughCrashes: an attack is stopped and told once; with `up`
// killed the kernel goes on, and what happened meanwhile arrives afterwards.
func TestUpGuardsThroughCrashes(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	h.drift("web", "first")
	got := h.incidentsOf("web", 1, driftIncidents())
	if h.marked("first") {
		t.Error("a program that was not in the image ran")
	}
	inc := got[0]
	if len(got) != 1 || inc.Container == nil || inc.Container.Name != "web" || inc.Container.Image.Name() != h.image || inc.Decision.Outcome == event.Detected {
		t.Errorf("incidents: %d, first %+v", len(got), inc)
	}

	if out, errs, code := h.run(h.upArgs("--gate=no")...); code != exitFailed || !strings.Contains(errs, "another") {
		t.Errorf("a second up on the same data: %d %s%s", code, out, errs)
	}
	second := h.upArgs("--gate=no")
	second[1] = "--data=" + h.data + "-second"
	p := startProgram(t, second...)
	if code := p.wait(time.Minute); code != exitFailed || !strings.Contains(p.said(), fmt.Sprint("by process ", h.up.cmd.Process.Pid)) {
		t.Errorf("a second up on the same kernel: %d %s", code, p.said())
	}

	// Killed in the middle of a row of attacks, and dead during more.
	const row = `for i in $(seq 20); do mkdir /tmp/r$i; cp /bin/busybox /tmp/r$i/touch; /tmp/r$i/touch /w/row; done`
	attacks := h.engine.Command(t.Context(), "exec", "web", "sh", "-c", row)
	if err := attacks.Start(); err != nil {
		t.Fatal(err)
	}
	h.incidentsOf("web", 3, driftIncidents())
	h.kill()
	_ = attacks.Wait() // how its last program ended
	for i := range 3 {
		h.drift("web", fmt.Sprint("dead", i))
	}
	h.box("newcomer")
	h.drift("newcomer", "newcomer")
	for _, mark := range []string{"dead0", "dead1", "dead2", "row", "newcomer"} {
		if h.marked(mark) {
			t.Errorf("%s: with the agent dead, a program that was not in the image ran", mark)
		}
	}

	h.start("--gate=no")
	got = h.incidentsOf("web", 24, driftIncidents())
	h.incidentsOf("newcomer", 1, driftIncidents())
	keys := map[string]int{}
	for _, inc := range h.incidents(nil) {
		keys[inc.Key]++
	}
	for key, n := range keys {
		if n != 1 {
			t.Errorf("incident %s is there %d times", key, n)
		}
	}
	if len(got) != 24 {
		t.Errorf("%d incidents of 24 attacks", len(got))
	}
	for _, inc := range append(got, h.incidentsOf("newcomer", 1, driftIncidents())...) {
		if inc.Container == nil || inc.Container.Image.Name() != h.image {
			t.Errorf("an incident without its image: %+v", inc.Container)
		}
	}

	// An orderly end lifts nothing either; unload does.
	h.up.signal(syscall.SIGINT)
	if code := h.up.wait(30 * time.Second); code != exitOK {
		t.Errorf("Ctrl-C: exit code %d\n%s", code, h.up.said())
	}
	h.drift("web", "ended")
	if h.marked("ended") {
		t.Error("Ctrl-C lifted the enforcement")
	}
	if out, errs, code := h.run("unload", "--pin="+h.pin); code != exitOK {
		t.Errorf("unload: %d %s%s", code, out, errs)
	}
	h.until("nothing is enforced any more", func() bool {
		h.drift("web", "unloaded")
		return h.marked("unloaded")
	})
}
