package enforce_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

func drift(effect event.Effect) policy.Run {
	return policy.Run{Policies: []string{"p"}, Generation: 7, Drift: policy.Switch{On: true, Effect: effect, Policy: "p", Source: "p.yaml:3"}}
}

func assign(t testing.TB, g *guard, run policy.Run) func(string) {
	return func(id string) {
		if err := g.Assign(id, run); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelTinyProgram(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	if r := b.run(program(t)); r.out != "x" || r.code != 0 {
		t.Fatalf("unguarded: %+v", r)
	}
	g.wait("exec", func(e event.Event) bool { return e.Kind == event.KindExec && e.Container.ID == b.id })
}

func TestKernelDrift(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	b := g.box(assign(t, g, drift(event.EffectBlock)))
	if r := b.run(tiny); r.out != "x" {
		t.Fatalf("a program from before the start: %+v\n%s", r, g.told())
	}
	if r := b.act("copyrun %s %s", tiny, t.TempDir()+"/dropped"); !r.refused() {
		t.Fatalf("a dropped program: %+v\n%s", r, g.told())
	}
	e := g.wait("drift", func(e event.Event) bool { return e.Decision != nil && e.Decision.Control == event.ControlDrift })
	t.Log(e.Decision.Why)
}
