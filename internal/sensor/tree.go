package sensor

import (
	"slices"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// treeDepth bounds an answer; deeper ancestries are cut at the old end.
const treeDepth = 64

// tree remembers processes and their parents, the dead ones as long as there
// is room: evidence is asked for after the fact.
type tree struct {
	capacity int

	mu    sync.Mutex
	nodes map[string]event.Process
	dead  []string // in the order of their end, the first to be forgotten
	live  []string // in the order of their appearance
}

func newTree(capacity int) *tree {
	return &tree{capacity: capacity, nodes: make(map[string]event.Process)}
}

// put adds a process, or what is newly known of it, and returns all that is
// known.
func (t *tree) put(p event.Process) event.Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.nodes[p.ID]
	if parent, ok := t.nodes[p.ParentID]; ok {
		p.ParentPath = parent.Path
	}
	if known && p.Path == "" {
		p.Path, p.Args = old.Path, old.Args
	}
	if !known {
		// A child is its parent's program until it executes one of its own.
		if parent, ok := t.nodes[p.ParentID]; ok && p.Path == "" {
			p.Path, p.Args = parent.Path, parent.Args
		}
		t.live = append(t.live, p.ID)
	}
	t.nodes[p.ID] = p
	t.shrink()
	return p
}

// end marks a process as dead: it is among the first to be forgotten.
func (t *tree) end(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.nodes[id]; ok {
		t.dead = append(t.dead, id)
	}
}

func (t *tree) shrink() {
	for len(t.nodes) > t.capacity {
		from := &t.dead
		if len(*from) == 0 {
			from = &t.live
		}
		delete(t.nodes, (*from)[0])
		*from = (*from)[1:]
	}
	if len(t.live) > 2*t.capacity { // names of those that died meanwhile
		t.live = slices.DeleteFunc(t.live, func(id string) bool { _, ok := t.nodes[id]; return !ok })
	}
}

// get returns what is known of a process.
func (t *tree) get(id string) (event.Process, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.nodes[id]
	return p, ok
}

// byPID is what is known of the process that had this pid last; empty when
// nothing is.
func (t *tree) byPID(pid int) (found event.Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.nodes {
		if p.PID == pid && (found.ID == "" || p.Started.After(found.Started)) {
			found = p
		}
	}
	return found
}

// ancestry returns a process and its ancestors, the oldest first.
func (t *tree) ancestry(id string) []event.Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []event.Process
	for len(list) < treeDepth {
		p, ok := t.nodes[id]
		if !ok || (len(list) > 0 && p.ID == list[len(list)-1].ID) {
			break
		}
		list = append(list, p)
		id = p.ParentID
	}
	slices.Reverse(list)
	return list
}
