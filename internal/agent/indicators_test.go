package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

// TestIndicatorsOfABundle: a peer that a bundle lists is told once, in alert.
func TestIndicatorsOfABundle(t *testing.T) {
	data, list := t.TempDir(), filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("192.0.2.7\n198.51.100.0/24\n2001:db8::/64\nevil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: list, Name: "ours", Program: "test"}); err != nil {
		t.Fatal(err)
	}
	b, err := intel.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var x indicators
	wrong := func(yield func(intel.Indicator, error) bool) { // what another program than ours may put in
		bad := []intel.Indicator{{Kind: feed.KindAddress, Value: "192.0.2.300", Source: "odd"}, {Kind: feed.KindNetwork, Value: "10.0.0.0/99\x1b[31m", Source: "odd"}}
		for _, i := range bad {
			if !yield(i, nil) {
				return
			}
		}
		b.Indicators(t.Context())(yield)
	}
	left, err := x.load(wrong)
	if err != nil {
		t.Fatal(err)
	}
	if err := left.err("indicator", "indicators"); err == nil || !strings.HasPrefix(err.Error(), "2 indicators of the bundle were left out, the others count: 192.0.2.300 of odd: is no address") || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("left out: %v", err)
	}
	for address, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.8": false, "198.51.100.200": true, "198.51.101.1": false, "2001:db8::9": true, "2001:db8:1::9": false, "": false, "evil": false} {
		ev := event.Event{Key: address, Kind: event.KindConnect, Time: time.Now(), Container: &event.Container{ID: "c"}, Network: &event.Network{Address: address, Port: 443}}
		inc, ok := x.contact(ev)
		if ok != want || ok && (inc.Decision.Effect != event.EffectAlert || inc.Decision.Outcome != event.Detected || inc.Sentence == "") {
			t.Errorf("%s: %v %+v", address, ok, inc)
		}
		if _, again := x.contact(ev); again {
			t.Errorf("%s was told twice", address)
		}
	}
}

// TestListedDomains: a listed domain and those below it are told once, in alert;
// a promoted one has its asker killed, each time, until it is demoted or ends.
func TestListedDomains(t *testing.T) {
	var x indicators
	left, err := x.load(func(yield func(intel.Indicator, error) bool) {
		for _, i := range []intel.Indicator{
			{Kind: feed.KindDomain, Value: "evil.example", Name: "Some.Botnet", Source: "ours"}, {Kind: feed.KindDomain, Value: "c2.evil.example", Source: "theirs"},
			{Kind: feed.KindDomain, Value: "over.example", Source: "ours", Ends: time.Unix(1, 0)}, {Kind: feed.KindDomain, Value: "not a domain\x1b[31m", Source: "odd"}, {Kind: feed.KindDomain, Value: "com", Source: "odd"},
		} {
			if !yield(i, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := left.err("indicator", "indicators"); err == nil || !strings.HasPrefix(err.Error(), "2 indicators") || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("left out: %v", err)
	}
	var p promotions
	ask := func(container, name string) (event.Incident, bool) {
		return x.question(event.Event{Key: name, Kind: event.KindDNS, Time: time.Now(), Container: &event.Container{ID: container}, DNS: &event.Question{Name: name, Type: "A"}}, &p)
	}
	for name, source := range map[string]string{"evil.example": "ours", "a.b.evil.example": "ours", "EVIL.example.": "ours", "x.c2.evil.example": "theirs", "notevil.example": "", "example": "", "over.example": "", "": "", ".": "", "..": "", "evil.example.org": ""} {
		inc, ok := ask("told once "+name, name)
		if ok != (source != "") || ok && (inc.Decision.Effect != event.EffectAlert || inc.Decision.Outcome != event.Detected || !strings.Contains(inc.Sentence, "which "+source+" lists as")) {
			t.Errorf("%q: %v %+v", name, ok, inc)
		}
		if _, again := ask("told once "+name, name); again {
			t.Errorf("%q was told twice", name)
		}
	}
	for _, promoted := range []struct {
		api.Promotion
		name string
		kill bool
	}{
		{api.Promotion{Kind: api.PromoteIndicator, Value: "evil.example"}, "evil.example", true},
		{api.Promotion{Kind: api.PromoteIndicator, Value: "evil.example"}, "deep.in.evil.example", true},
		{api.Promotion{Kind: api.PromoteIndicator, Value: "unlisted.example"}, "www.unlisted.example", true},
		{api.Promotion{Kind: api.PromoteIndicator, Source: "ours"}, "evil.example", true},
		{api.Promotion{Kind: api.PromoteIndicator}, "evil.example", true},
		{api.Promotion{Kind: api.PromoteIndicator, Source: "theirs"}, "evil.example", false},
		{api.Promotion{Kind: api.PromoteIndicator, Value: "other.example"}, "evil.example", false},
		{api.Promotion{Kind: api.PromoteIndicator, Value: "evil.example", Ends: time.Unix(1, 0)}, "evil.example", false},
		{api.Promotion{Kind: api.PromoteIndicator, Value: "c2.evil.example"}, "evil.example", false},
		{api.Promotion{Kind: api.PromoteDetection, Value: "evil.example"}, "evil.example", false},
	} {
		if _, err := p.set([]api.Promotion{promoted.Promotion}, &x, time.Now()); err != nil {
			t.Fatal(err)
		}
		ask("promoted", promoted.name)
		inc, ok := ask("promoted", promoted.name)
		if ok != promoted.kill || ok && (inc.Decision.Effect != event.EffectKill || inc.Decision.Outcome != event.Detected || !strings.Contains(inc.Decision.Why, "promoted")) {
			t.Errorf("%+v: the second question: %v %+v", promoted, ok, inc)
		}
	}
	if _, err := p.set([]api.Promotion{{Kind: api.PromoteIndicator}}, &x, time.Now()); err != nil {
		t.Fatal(err)
	}
	if inc, ok := ask("promoted", "good.example"); ok {
		t.Errorf("every indicator is promoted, this is none: %+v", inc)
	}
}

// TestDetectionsOfABundleOnlyAlert: whatever effect they ask for, and never in
// the place of the program's own.
func TestDetectionsOfABundleOnlyAlert(t *testing.T) {
	rule := func(id string) string {
		return "apiVersion: breakwater/v1\nkind: Detection\nid: " + id + `
title: Odd shell
severity: high
description: A shell that talks to the network.
attack: [T1059]
events: [exec]
effect: kill
when: exec.stdinSocket && exec.stdoutSocket
sentence: "{exec} was started in {container}"
mustFire:
  - kind: exec
    exec: {path: /bin/dash, stdinSocket: true, stdoutSocket: true}
mustNotFire:
  - kind: exec
    exec: {path: /bin/dash}
`
	}
	own, err := detect.Load(content.Detections())
	if err != nil {
		t.Fatal(err)
	}
	brought, err := detect.Load(fstest.MapFS{"a.yaml": {Data: []byte(rule("odd-shell"))}, "b.yaml": {Data: []byte(rule("reverse-shell"))}})
	if err != nil {
		t.Fatal(err)
	}
	ev := event.Event{Key: "e", Kind: event.KindExec, Time: time.Now(), Container: &event.Container{ID: "c"}, Exec: &event.Exec{Path: "/bin/dash", StdinSocket: true, StdoutSocket: true}}
	got, _ := alerts(detect.NewEngine(brought), own, ev, (&promotions{}).run(time.Now()))
	if len(got) != 1 || got[0].Detection != "odd-shell" || got[0].Decision.Effect != event.EffectAlert || got[0].Decision.Outcome != event.Detected {
		t.Errorf("%+v", got)
	}
	var p promotions
	if _, err := p.set([]api.Promotion{{Kind: api.PromoteDetection, Value: "odd-shell"}}, &indicators{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	got, _ = alerts(detect.NewEngine(brought), own, ev, p.run(time.Now()))
	if len(got) != 1 || got[0].Decision.Effect != event.EffectKill || got[0].Decision.Audit {
		t.Errorf("promoted: %+v", got)
	}
	ev.Exec.StdinSocket = false
	if got, _ := alerts(detect.NewEngine(brought), own, ev, (&promotions{}).run(time.Now())); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got, _ := alerts(nil, own, ev, (&promotions{}).run(time.Now())); len(got) != 0 {
		t.Errorf("without any: %+v", got)
	}
}
