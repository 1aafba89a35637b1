package policy_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// now is when the tests take place.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, text string) []*policy.Policy {
	t.Helper()
	policies, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return policies
}

func newSet(t testing.TB, policies []*policy.Policy) *policy.Set {
	t.Helper()
	set, err := policy.NewSet(7, policies)
	if err != nil {
		t.Fatalf("set: %v", err)
	}
	return set
}

func shipped(t testing.TB, name string) *policy.Set {
	t.Helper()
	data, err := fs.ReadFile(content.Policies(), name)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return newSet(t, policies)
}

func TestBaselineLetsOrdinaryThingsPass(t *testing.T) {
	set := shipped(t, "baseline.yaml")
	ordinary := policy.StartFacts{
		Subject: policy.Subject{Image: event.Image{References: []string{"nginx:1.27"}}},
		Mounts: []policy.Mount{
			{Source: "/etc/localtime", Target: "/etc/localtime", Type: "bind", ReadOnly: true},
			{Source: "/srv/www", Target: "/www", Type: "bind"},
			{Source: "/", Target: "/host", Type: "bind", ReadOnly: true},
			{Source: "/var/run/docker.sock", Target: "/var/run/docker.sock", Type: "bind"},
		},
		HostNamespaces: []string{"net"},
	}
	if v := set.Start(now, ordinary); !v.Allowed {
		t.Errorf("an ordinary container is refused: %+v", v.Violations)
	}
	ordinary.Privileged = true
	if v := set.Start(now, ordinary); v.Allowed {
		t.Error("a privileged container passes")
	}
	ordinary.Privileged = false
	ordinary.Mounts = []policy.Mount{{Source: "/", Target: "/host", Type: "bind"}}
	if v := set.Start(now, ordinary); v.Allowed {
		t.Error("a writable mount of the host's root passes")
	}
	if v := set.Image(now, policy.ImageFacts{}); !v.Allowed || len(v.Incomplete) != 1 {
		t.Errorf("an image that nobody scanned: %+v, want allowed and noted", v)
	}
	run := set.Run(now, policy.Subject{})
	if run.Drift.Effect != event.EffectBlock || run.Fileless.Effect != event.EffectKill || run.Audit || len(run.Network.Deny) == 0 || !run.Respond {
		t.Errorf("run section: %+v", run)
	}
	if run := set.Run(now, policy.Subject{Container: event.Container{Build: true}}); run.Drift.On {
		t.Error("a build container is under drift control")
	}
}
