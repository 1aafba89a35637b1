package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// The limits are far below what a busy loop gets also of a machine with much
// else to do.
const limits = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: throttled}
scope: container.name == "throttled"
run:
  resources: {cpu: 0.02, effect: throttle}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: kept}
scope: container.name == "kept"
run:
  resources: {cpu: 0.02, effect: throttle}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: paused}
scope: container.name == "paused"
run:
  resources: {cpu: 0.02, effect: pause}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: stopped}
scope: container.name == "stopped"
run:
  resources: {pids: 4, effect: stop}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: audited}
scope: container.name == "audited"
mode: audit
run:
  resources: {pids: 4, effect: stop}
---
apiVersion: breakwater/v1
kind: Policy
metadata: {name: idle}
scope: container.name == "idle"
run:
  resources: {cpu: 0.1, memory: 64Mi, pids: 4, files: 100, diskWrites: 1Mi, network: 1Mi, effect: stop}
`

const noLimits = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: throttled}
scope: container.name == "throttled"
run:
  resources: {cpu: 64, effect: throttle}
`

// TestUpHoldsContainersToLimits: of containers that use more than policy allows,
// one each is throttled, paused, stopped and only told of; one that rests is left
// alone.
func TestUpHoldsContainersToLimits(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("idle")
	const loop, crowd = "while :; do :; done", "for i in 1 2 3 4 5 6; do sleep 600 & done; wait"
	for name, script := range map[string]string{"throttled": loop, "kept": loop, "paused": loop, "stopped": crowd, "audited": crowd} {
		h.engine.MustRun(t, "run", "-d", "--name", name, "--network=none", h.image, "sh", "-c", script)
	}
	free := h.quota("throttled")
	h.apply(limits)
	for name, want := range map[string]event.Effect{"throttled": event.EffectThrottle, "kept": event.EffectThrottle, "paused": event.EffectPause, "stopped": event.EffectStop} {
		inc := h.excess(name)
		if len(inc.Responses) != 1 || inc.Responses[0].Effect != want || !inc.Responses[0].Done {
			t.Errorf("%s: %+v", name, inc.Responses)
		}
		if inc.Decision.Policy != name || inc.Decision.Effect != want || inc.Decision.Audit || !strings.HasPrefix(inc.Sentence, "`"+name+"` used ") {
			t.Errorf("%s: %q %+v", name, inc.Sentence, inc.Decision)
		}
	}
	if inc := h.excess("audited"); !inc.Decision.Audit || len(inc.Responses) != 0 || inc.Event.Resource.Used != 7 || inc.Event.Resource.Limit != 4 {
		t.Errorf("audited: %+v %+v", inc.Decision, inc.Event.Resource)
	}
	for name, want := range map[string]string{"throttled": "running", "paused": "paused", "stopped": "exited", "audited": "running", "idle": "running"} {
		if got := strings.TrimSpace(h.engine.MustRun(t, "inspect", "--format={{.State.Status}}", name)); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	if held := h.quota("throttled"); !strings.HasPrefix(held, "2000") {
		t.Errorf("the group of the throttled container has the quota %s", held)
	}
	h.until("the throttled container uses less", func() bool {
		const while = 2 * time.Second
		before := h.cpuTime("throttled")
		time.Sleep(while) // the time that is measured
		return h.cpuTime("throttled")-before < while/20
	})

	h.apply(noLimits)
	h.until("the throttled container has what it had before", func() bool { return h.quota("throttled") == free })
	h.engine.MustRun(t, "unpause", "paused")
	h.until("the unpaused container is paused again", func() bool {
		return strings.TrimSpace(h.engine.MustRun(t, "inspect", "--format={{.State.Status}}", "paused")) == "paused"
	})
	for _, inc := range h.incidents(nil) {
		if c := inc.Container; c != nil && c.Name == "idle" {
			t.Errorf("of a container that rests: %s", inc.Sentence)
		}
	}

	h.up.signal(syscall.SIGTERM)
	h.up.wait(30 * time.Second)
	if h.quota("kept") == free {
		t.Error("Ctrl-C lifted the throttle")
	}
	if out, errs, code := h.run("unload", "--pin="+h.pin); code != exitOK || h.quota("kept") != free {
		t.Errorf("unload left the quota %s: %d %s%s", h.quota("kept"), code, out, errs)
	}
}

// excess waits for the incident of a container that is above policy's limit.
func (h *wholeHost) excess(container string) event.Incident {
	h.t.Helper()
	var found *store.Incident
	h.until("more than policy allows is told of "+container, func() bool {
		for _, inc := range h.incidentsOf(container, 0, nil) {
			if inc.Decision.Control == event.ControlResources && inc.Detection == "" {
				found = &inc
			}
		}
		return found != nil
	})
	return found.Incident
}

// group reads a file of the container's cgroup, by its v1 or v2 name.
func (h *wholeHost) group(container, legacy, unified string) string {
	h.t.Helper()
	id := strings.TrimSpace(h.engine.MustRun(h.t, "inspect", "--format={{.Id}}", container))
	below := filepath.Join(filepath.Base(h.under), id)
	files, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", below, legacy))
	if err != nil || len(files) == 0 {
		files = []string{filepath.Join("/sys/fs/cgroup", below, unified)}
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func (h *wholeHost) quota(container string) string {
	h.t.Helper()
	return h.group(container, "cpu.cfs_quota_us", "cpu.max")
}

// cpuTime is what a container used of processors until now.
func (h *wholeHost) cpuTime(container string) time.Duration {
	h.t.Helper()
	text := h.group(container, "cpuacct.usage", "cpu.stat")
	if usec, ok := strings.CutPrefix(text, "usage_usec "); ok {
		text = strings.Fields(usec)[0] + "000"
	}
	used, err := time.ParseDuration(text + "ns")
	if err != nil {
		h.t.Fatal(err)
	}
	return used
}
