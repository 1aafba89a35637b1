package agent

import (
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

func TestBuilds(t *testing.T) {
	var b builds
	now := time.Now()
	want := func(what string, at time.Time, n int) {
		t.Helper()
		if got := b.running(at); got != n {
			t.Errorf("%s: %d builds, want %d", what, got, n)
		}
	}
	want("nothing was said", now, 0)
	b.set(api.GateNote{Gate: "one", Builds: 2}, now)
	b.set(api.GateNote{Gate: "two", Builds: 1}, now)
	b.set(api.GateNote{Gate: "bad", Builds: -7}, now)
	want("two gates", now, 3)
	later := now.Add(api.GateNoteHolds / 2)
	b.set(api.GateNote{Gate: "one", Builds: 1}, later)
	want("one of two ended", later, 2)
	silent := now.Add(api.GateNoteHolds + time.Second)
	want("the second fell silent", silent, 1)
	b.set(api.GateNote{Gate: "one"}, silent)
	want("all ended", silent, 0)
	if len(b.of) != 0 {
		t.Errorf("remembered: %v", b.of)
	}
}
