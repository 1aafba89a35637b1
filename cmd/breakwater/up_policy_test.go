package main

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

const refusesRoot = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: no-root}
image:
  unscanned: scan
  rules:
    - {id: no-root, deny: 'image.config.user in ["", "0", "root"]', message: Run as a non-root user}
`

const forbids = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: forbids}
run:
  exec: {deny: ["/opt/touch"], effect: block}
`

// toolImage builds an image with a program at /opt/touch that leaves marks.
func (h *wholeHost) toolImage(name, user string) {
	h.t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		h.t.Fatal(err)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.engine.BuildImage(h.t, name, "FROM "+h.image+"\nCOPY touch /opt/touch\nUSER "+user+"\n", map[string][]byte{"touch": busybox})
}

// TestUpPutsPolicyIntoForce: what the API takes is in the kernel of the host,
// and at its gate, which outlives the death of either half.
func TestUpPutsPolicyIntoForce(t *testing.T) {
	h := newWholeHost(t)
	if err := os.Chmod(h.witness, 0o777); err != nil { // past the umask: the image's user is not root
		t.Fatal(err)
	}
	h.toolImage("tool", "10001")
	h.toolImage("tool-root", "0")
	h.image = "tool"
	h.start("--gate=yes")
	h.box("web")
	h.engine.Run("exec", "web", "/opt/touch", "/w/before")
	if !h.marked("before") {
		t.Fatal("an ordinary program of the image did not run")
	}

	generation := h.apply(forbids)
	h.until("the container stands under the new policy", func() bool {
		for _, c := range h.status().Containers {
			if c.Container.Name == "web" && c.Generation == generation && strings.Contains(strings.Join(c.Policies, " "), "forbids") {
				return true
			}
		}
		return false
	})
	h.engine.Run("exec", "web", "/opt/touch", "/w/after")
	if h.marked("after") {
		t.Error("a denied program ran")
	}
	if got := h.incidentsOf("web", 1, url.Values{"policy": {"forbids"}}); got[0].Decision.Outcome == event.Detected {
		t.Errorf("decision: %+v", got[0].Decision)
	}

	h.apply(refusesRoot)
	refusedAtGate := func(why string, args ...string) {
		t.Helper()
		if _, errs, code := h.engine.Run(append([]string{"run", "--rm", "--network=none"}, args...)...); code == 0 || !strings.Contains(errs, why) {
			t.Errorf("docker run %v: %d %s", args, code, errs)
		}
	}
	refusedAtGate("Run as a non-root user", "tool-root", "true")
	h.engine.MustRun(t, "run", "--rm", "--network=none", "tool", "true")
	h.engine.MustRun(t, "tag", "tool-root", "tool:moved")
	refusedAtGate("Run as a non-root user", "tool:moved", "true")
	refusedAtGate("capability", "--cap-add=SYS_ADMIN", "tool", "true")
	h.until("the refusals are incidents", func() bool { return len(h.incidents(url.Values{"control": {"start"}})) >= 3 })

	state := func() gateState { return gateSite{engine: h.engine, flags: h.gateFlags()}.state(t) }
	before := state().Gate
	if before == nil {
		t.Fatal("no gate answers")
	}
	if err := syscall.Kill(before.Worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	refusedAtGate("Run as a non-root user", "tool-root", "true")
	if err := syscall.Kill(before.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.engine.MustRun(t, "ps")
	refusedAtGate("Run as a non-root user", "tool-root", "true")
	h.kill()
	refusedAtGate("Run as a non-root user", "tool-root", "true")
	h.start("--gate=no")
	h.engine.MustRun(t, "run", "--rm", "--network=none", "tool", "true")

	// A policy that is wrong changes nothing.
	var list struct{ Generation uint64 }
	err := h.api(http.MethodPost, "/api/v1/policies", []byte(strings.Replace(forbids, "effect: block", "effect: bloc", 1)), &list)
	if err == nil || !strings.Contains(err.Error(), "bloc") {
		t.Errorf("a wrong policy: %v", err)
	}
	var hosts struct{ Items []store.Agent }
	if err := h.api(http.MethodGet, "/api/v1/hosts", nil, &hosts); err != nil || len(hosts.Items) != 1 {
		t.Errorf("hosts: %v %d", err, len(hosts.Items))
	}
}

// TestUpJudgesWhatNoGateSaw: containers that policy refuses are stopped when
// they appear, but not those that were there before, and none when observing.
func TestUpJudgesWhatNoGateSaw(t *testing.T) {
	h := newWholeHost(t)
	running := func(name string) bool {
		return h.engine.MustRun(t, "inspect", "-f", "{{.State.Running}}", name) == "true"
	}
	h.box("early", "--cap-add=SYS_MODULE")
	h.start("--gate=no")
	if got := h.incidentsOf("early", 1, url.Values{"control": {"start"}}); !got[0].Decision.Audit || !running("early") {
		t.Errorf("a container that ran before: %+v", got[0].Decision)
	}
	h.box("sneaked", "--cap-add=SYS_MODULE")
	h.until("the container that no gate saw is stopped", func() bool { return !running("sneaked") })
	if got := h.incidentsOf("sneaked", 1, url.Values{"control": {"start"}}); got[0].Decision.Outcome != event.Killed || !strings.Contains(got[0].Decision.Why, "capability") {
		t.Errorf("incident: %+v", got[0].Incident)
	}
	h.box("fine")
	if !running("fine") {
		t.Error("a container that policy allows was stopped")
	}

	h.up.signal(syscall.SIGTERM)
	if code := h.up.wait(shutdownWithin); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	h.start("--gate=no", "--observe")
	h.drift("fine", "observed")
	if !h.marked("observed") {
		t.Error("an agent that only observes stopped a program")
	}
	h.incidentsOf("fine", 1, driftIncidents())
	h.box("watched", "--cap-add=SYS_MODULE")
	if got := h.incidentsOf("watched", 1, url.Values{"control": {"start"}}); !got[0].Decision.Audit || !running("watched") {
		t.Errorf("observing: %+v", got[0].Decision)
	}
}
