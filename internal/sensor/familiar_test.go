package sensor

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// digests is the programs' map.
type digests map[uint64]bool

func (d digests) Put(key, _ any) error { d[key.(uint64)] = true; return nil }
func (d digests) Delete(key any) error { delete(d, key.(uint64)); return nil }

func TestFamiliar(t *testing.T) {
	known := digests{}
	f := newFamiliar(known)
	p := event.Process{Path: "/bin/true", Args: []string{"true"}}
	f.learn(1, "a", p)
	if path, args, ok := f.program(1); !ok || path != p.Path || len(args) != 1 {
		t.Errorf("an execution is remembered as %q %q %v", path, args, ok)
	}
	if len(known) != 0 {
		t.Error("an execution is familiar before anybody looked at it")
	}
	f.settle(1, f.now())
	if len(known) != 0 {
		t.Error("an execution that came once is familiar")
	}
	f.learn(1, "a", p)
	since := f.now()
	f.forget("b")
	f.settle(1, since)
	if len(known) != 0 {
		t.Error("looked at under rules that changed meanwhile")
	}
	f.settle(1, f.now())
	f.learn(2, "b", p)
	f.learn(2, "b", p)
	f.settle(2, f.now())
	f.settle(3, f.now())
	if !known[1] || !known[2] || known[3] {
		t.Errorf("familiar: %v", known)
	}
	f.forget("a")
	if known[1] || !known[2] {
		t.Errorf("of one container: %v", known)
	}
	f.settle(1, f.now())
	f.forget("")
	if len(known) != 0 {
		t.Errorf("of all: %v", known)
	}
}

func TestFamiliarIsBounded(t *testing.T) {
	known := digests{}
	f := newFamiliar(known)
	for i := range uint64(3 * familiarCapacity) {
		f.learn(i+1, "a", event.Process{})
		f.learn(i+1, "a", event.Process{})
		f.settle(i+1, f.now())
	}
	if len(known) != familiarCapacity || len(f.acts) != familiarCapacity || len(f.order) != familiarCapacity {
		t.Errorf("%d in the programs' map, %d and %d here", len(known), len(f.acts), len(f.order))
	}
	if _, _, ok := f.program(1); ok {
		t.Error("the oldest is forgotten first")
	}
}
