package sensor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func TestTree(t *testing.T) {
	tr := newTree(3)
	tr.put(event.Process{ID: "1", Path: "/init"})
	tr.put(event.Process{ID: "2", ParentID: "1"})
	if p, _ := tr.get("2"); p.Path != "/init" {
		t.Errorf("a fork is its parent's program: %+v", p)
	}
	tr.put(event.Process{ID: "2", ParentID: "1", Path: "/sh"})
	tr.put(event.Process{ID: "3", ParentID: "2", Path: "/nc"})
	var names []string
	for _, p := range tr.ancestry("3") {
		names = append(names, p.Path)
	}
	if got := strings.Join(names, " "); got != "/init /sh /nc" {
		t.Errorf("ancestry: %s", got)
	}
	tr.end("2")
	tr.put(event.Process{ID: "4", ParentID: "3"})
	if _, ok := tr.get("2"); ok {
		t.Error("the dead are forgotten first")
	}
	if tr.ancestry("unknown") != nil {
		t.Error("an unknown process has no ancestry")
	}
}

func TestTreeIsBounded(t *testing.T) {
	tr := newTree(100)
	for i := range 10000 {
		id := fmt.Sprint(i)
		tr.put(event.Process{ID: id, ParentID: fmt.Sprint(i - 1)})
		if i%3 == 0 {
			tr.end(id)
		}
	}
	if len(tr.nodes) > 100 || len(tr.live) > 300 || len(tr.dead) > 5000 {
		t.Errorf("%d nodes, %d live, %d dead", len(tr.nodes), len(tr.live), len(tr.dead))
	}
	tr.put(event.Process{ID: "loop", ParentID: "loop"})
	if n := len(tr.ancestry("loop")); n != 1 {
		t.Errorf("a process that is its own parent: %d", n)
	}
	if n := len(tr.ancestry("9999")); n > treeDepth {
		t.Errorf("%d ancestors", n)
	}
}
