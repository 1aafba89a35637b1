package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/resource"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// notices are the codes and messages of what the agent said of itself.
func (s *site) notices(code string) (messages []string) {
	s.t.Helper()
	for _, r := range s.uplink.of(api.RecordEvent) {
		var ev event.Event
		if err := json.Unmarshal(r.Body, &ev); err != nil {
			s.t.Fatal(err)
		}
		if ev.Kind == event.KindAgent && ev.Notice != nil && ev.Notice.Code == code {
			messages = append(messages, ev.Notice.Message)
		}
	}
	return messages
}

// press makes the kernel say that the host is short of memory and of disk
// throughput.
func (s *site) press() {
	s.t.Helper()
	s.opts.Pressure = s.t.TempDir()
	for file, full := range map[string]string{"cpu": "0.00", "memory": "45.50", "io": "88.00"} {
		text := "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=" + full + " avg60=0.00 avg300=0.00 total=1\n"
		if err := os.WriteFile(filepath.Join(s.opts.Pressure, file), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestPressureNamesItsCause: the host is short of two things; one of them a
// container writes away, the other one no container has much of.
func TestPressureNamesItsCause(t *testing.T) {
	engine := testenv.NeedDocker(t)
	id := strings.TrimSpace(engine.MustRun(t, "run", "-d", "--network=none", engine.BusyboxImage(t), "sh", "-c",
		"while :; do dd if=/dev/zero of=/big bs=1M count=16 conv=fsync; done"))
	t.Cleanup(func() { engine.Remove(t, id) })
	s := newSite(t)
	s.press()
	s.engine.add(id, "writer", nil)
	s.start()
	s.appear(id)
	var pressed []event.Incident
	for deadline := time.Now().Add(time.Minute); len(pressed) == 0 || len(s.notices(event.NoticePressure)) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %+v %v", pressed, s.notices(event.NoticePressure))
		}
		pressed = nil
		for _, inc := range s.incidents() {
			if inc.Detection == "host-pressure" {
				pressed = append(pressed, inc)
			}
		}
	}
	inc := pressed[0]
	if len(pressed) != 1 || inc.Container.ID != id || inc.Severity != event.SeverityLow || inc.Decision.Effect != event.EffectAlert || len(inc.Responses) != 0 {
		t.Errorf("%d incidents; %+v", len(pressed), inc)
	}
	if !strings.HasPrefix(inc.Sentence, "The host is short of disk throughput: for 88 % of the last ten seconds programs waited for it, and `writer` uses most of it: ") {
		t.Error(inc.Sentence)
	}
	if r := inc.Event.Resource; r == nil || r.Resource != "diskWrites" || r.Used == 0 || r.Pressure != 88 {
		t.Errorf("%+v", r)
	}
	if said := s.notices(event.NoticePressure); len(said) != 1 || !strings.HasPrefix(said[0], "The host is short of memory: for 45 % ") || !strings.Contains(said[0], "No container stands out") {
		t.Errorf("%q", said)
	}
}

// TestHostsWithoutPressure: that nothing is watched is said, once.
func TestHostsWithoutPressure(t *testing.T) {
	s := newSite(t)
	s.opts.Pressure = t.TempDir()
	s.start()
	s.until("it is said", func() bool { return len(s.notices(event.NoticeNoPressure)) == 1 })
	if said := s.notices(event.NoticeNoPressure)[0]; !strings.Contains(said, "psi=1") {
		t.Error(said)
	}
}

// TestThrottlesOfAnEarlierAgent: what an earlier agent held a container to stays
// until it is known that policy does not want it.
func TestThrottlesOfAnEarlierAgent(t *testing.T) {
	engine := testenv.NeedDocker(t)
	id := strings.TrimSpace(engine.MustRun(t, "run", "-d", "--network=none", engine.BusyboxImage(t), "sleep", "600"))
	t.Cleanup(func() { engine.Remove(t, id) })
	s := newSite(t)
	groups, err := resource.OpenCgroups()
	if err != nil {
		t.Fatal(err)
	}
	groups.Find([]string{id})
	throttle, err := resource.OpenThrottle(groups, filepath.Join(s.dir, resource.ThrottleFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := throttle.Set(id, policy.Limit{Resource: policy.ResourcePIDs, Most: 33, Effect: event.EffectThrottle}, 1); err != nil {
		t.Fatal(err)
	}
	held := func() int {
		later, err := resource.OpenThrottle(groups, filepath.Join(s.dir, resource.ThrottleFile))
		if err != nil {
			t.Fatal(err)
		}
		return len(later.Held())
	}
	s.kernel.known = []enforce.Guarded{{ID: id}}
	s.opts.Pressure = t.TempDir()
	s.start()
	s.until("the agent has looked once", func() bool { return len(s.notices(event.NoticeNoPressure)) == 1 })
	if held() != 1 || len(s.notices(event.NoticeThrottleLifted)) != 0 {
		t.Errorf("of a container that nobody knows yet, the throttle is lifted: %q", s.notices(event.NoticeThrottleLifted))
	}
	s.engine.add(id, "web", nil)
	s.appear(id)
	s.until("the throttle is lifted", func() bool { return held() == 0 })
	s.until("that is told", func() bool { return len(s.notices(event.NoticeThrottleLifted)) == 1 })
	if said := s.notices(event.NoticeThrottleLifted)[0]; said != "`web` is no longer held to 33 processes and threads: policy does not want it any more." {
		t.Error(said)
	}
}
