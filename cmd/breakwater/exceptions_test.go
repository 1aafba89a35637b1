package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

func (h *wholeHost) exceptions() []store.Exception {
	h.t.Helper()
	out, errs, code := h.run("incidents", "exceptions", "--format=json")
	var list []store.Exception
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitOK {
		h.t.Fatalf("exceptions: %d %s %s", code, out, errs)
	}
	return list
}

// TestAnExceptionIsMadeFromAnIncident: what was excepted is told no more, on agents
// that go on running and after a kill, and counted; what differs is told; what the
// kernel stops stays stopped; taken back, it is told again.
func TestAnExceptionIsMadeFromAnIncident(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	scan := func(tool string) { h.engine.Run("exec", "web", "/bin/"+tool, "-w", "1", "192.0.2.1", "9") }
	of := func(detection string) []store.Incident {
		return h.incidents(url.Values{"container": {"web"}, "detection": {detection}})
	}
	scan("nc")
	h.until("a network tool is told of", func() bool { return len(of("network-tool")) == 1 })
	until := time.Now().AddDate(0, 0, 3).Format(time.DateOnly)
	id := fmt.Sprint(of("network-tool")[0].ID)
	for _, wrong := range [][]string{{"--until=" + until}, {"--reason=x"}, {"--reason=x", "--until=soon"}} {
		if _, errs, code := h.run(append([]string{"incidents", "except", id}, wrong...)...); code != exitUsage {
			t.Errorf("%v: %d %s", wrong, code, errs)
		}
	}
	if _, errs, code := h.run("incidents", "except", id, "--reason=x", "--until=2020-01-01"); code != exitFailed || !strings.Contains(errs, "is over") {
		t.Errorf("an end that is over: %d %s", code, errs)
	}
	out, errs, code := h.run("incidents", "except", id, "--reason=our own check", "--until="+until, "--container")
	if code != exitOK || !strings.Contains(out, "network-tool") || !strings.Contains(out, "container web") {
		t.Fatalf("except: %d %s %s", code, out, errs)
	}
	first := h.exceptions()[0]
	h.until("what is excepted is counted", func() bool {
		scan("nc")
		return h.exceptions()[0].Count >= 2
	})
	if first.Count != 0 {
		t.Errorf("before: %+v", first)
	}
	if list := of("network-tool"); len(list) != 1 {
		t.Errorf("%d incidents of what is excepted", len(list))
	}
	if x := h.exceptions()[0]; x.Outcome != event.Detected || x.Last.IsZero() || x.Reason != "our own check" {
		t.Errorf("%+v", x)
	}
	// Another program of the same detection is told.
	scan("telnet")
	h.until("what differs is told", func() bool { return len(of("network-tool")) == 2 })

	before := h.exceptions()[0].Count
	h.kill()
	h.start("--gate=no")
	h.until("after a kill it is still passed over and counted", func() bool {
		scan("nc")
		return h.exceptions()[0].Count > before
	})
	if list := of("network-tool"); len(list) != 2 {
		t.Errorf("%d incidents after a kill", len(list))
	}

	// What the kernel kills by policy stays killed, and the count says so.
	h.drift("web", "first")
	h.until("drift is told of", func() bool {
		return len(h.incidents(url.Values{"container": {"web"}, "control": {"drift"}})) == 1
	})
	drift := h.incidents(url.Values{"container": {"web"}, "control": {"drift"}})[0]
	if out, errs, code := h.run("incidents", "except", fmt.Sprint(drift.ID), "--reason=known", "--until="+until); code != exitOK || !strings.Contains(out, "policy.drift") {
		t.Fatalf("except drift: %d %s %s", code, out, errs)
	}
	h.until("the excepted drift is killed and counted", func() bool {
		h.drift("web", "first")
		x := h.exceptions()[0]
		return x.Count >= 1 && x.Outcome == event.Killed
	})
	if h.marked("first") {
		t.Error("an exception let a program run that policy stops")
	}

	var rules struct {
		Items []struct {
			ID         string
			Day        int
			Excepted   uint64
			Exceptions []store.Exception
		}
	}
	if err := h.api("GET", "/api/v1/detections", nil, &rules); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range rules.Items {
		if (r.ID == "network-tool" && r.Day == 2 || r.ID == "policy.drift" && r.Day == 1) && r.Excepted > 0 && len(r.Exceptions) == 1 {
			found++
		}
	}
	if found != 2 {
		t.Errorf("detections do not show their hits and what was passed over: %+v", rules.Items[:4])
	}
	if out, errs, code := h.run("detections", "list"); code != exitOK || !strings.Contains(out, "policy.drift") || !strings.Contains(out, "network-tool") {
		t.Errorf("list: %d %s %s", code, out, errs)
	}
	if out, errs, code := h.run("incidents", "unexcept", fmt.Sprint(first.ID), "--reason=moved"); code != exitOK {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	h.until("taken back, it is told again", func() bool {
		scan("nc")
		return len(of("network-tool")) == 3
	})
}
