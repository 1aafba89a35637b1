package detect

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of what is remembered for counting. A container has room of its own,
// so that no other one can make what it does forgotten; what is forgotten first is
// what was counted longest ago. At most about 8 MiB together.
const (
	maxTallies         = 1_024   // containers
	maxGroups          = 512     // of one container
	maxContainerValues = 8_192   // of all groups of a container
	maxValues          = 131_072 // of all containers
)

// counts remembers, for counting detections, which values events had lately.
type counts struct {
	seed maphash.Seed

	mu          sync.Mutex
	byContainer map[string]*list.Element
	order       *list.List // of *tally, the most recently counted first
	values      int
}

// tally is what is counted of one container.
type tally struct {
	container string
	byKey     map[groupKey]*list.Element
	order     *list.List // of *group, the most recently counted first
	values    int
}

// groupKey is what the events have in common whose values are counted together.
type groupKey struct{ rule, by string }

type group struct {
	key    groupKey
	newest time.Time
	seen   map[uint64]time.Time // when each value, by its hash, was seen last
}

func newCounts() *counts {
	return &counts{seed: maphash.MakeSeed(), byContainer: map[string]*list.Element{}, order: list.New()}
}

// reached counts an event that the condition of a counting rule holds for, and
// says whether there are more now than the rule lets pass. The counting begins anew
// then, so that what goes on is told again only after as much again.
func (c *counts) reached(r *Rule, ev event.Event) bool {
	value, by, ok := r.Count.valuesOf(ev)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally(orEmpty(ev.Container).ID)
	g := t.group(groupKey{r.ID, by})
	before := len(g.seen)
	fired := g.add(maphash.String(c.seed, value), ev.Time, r.Count)
	t.values += len(g.seen) - before
	c.values += len(g.seen) - before
	c.values -= t.forget()
	for c.order.Len() > 1 && (c.order.Len() > maxTallies || c.values > maxValues) {
		oldest := c.order.Remove(c.order.Back()).(*tally)
		delete(c.byContainer, oldest.container)
		c.values -= oldest.values
	}
	return fired
}

func (c *counts) tally(container string) *tally {
	if element := c.byContainer[container]; element != nil {
		c.order.MoveToFront(element)
		return element.Value.(*tally)
	}
	t := &tally{container: container, byKey: map[groupKey]*list.Element{}, order: list.New()}
	c.byContainer[container] = c.order.PushFront(t)
	return t
}

func (t *tally) group(key groupKey) *group {
	if element := t.byKey[key]; element != nil {
		t.order.MoveToFront(element)
		return element.Value.(*group)
	}
	g := &group{key: key, seen: map[uint64]time.Time{}}
	t.byKey[key] = t.order.PushFront(g)
	return g
}

// forget drops what was counted longest ago until there is room, and says how many
// values that were.
func (t *tally) forget() (dropped int) {
	for t.order.Len() > 1 && (t.order.Len() > maxGroups || t.values > maxContainerValues) {
		oldest := t.order.Remove(t.order.Back()).(*group)
		delete(t.byKey, oldest.key)
		t.values -= len(oldest.seen)
		dropped += len(oldest.seen)
	}
	return dropped
}

// add takes up a value. It never holds more of them than the count lets pass, plus
// those that are too old and were not looked at since.
func (g *group) add(value uint64, at time.Time, c *Count) (fired bool) {
	// Events of two rings come a little out of order; a clock that went back
	// further than that must not silence anything.
	if at.Before(g.newest.Add(-c.Within)) {
		clear(g.seen)
		g.newest = at
	}
	if at.After(g.newest) {
		g.newest = at
	}
	g.seen[value] = at
	if len(g.seen) <= c.MoreThan {
		return false
	}
	for v, last := range g.seen {
		if g.newest.Sub(last) > c.Within {
			delete(g.seen, v)
		}
	}
	if len(g.seen) <= c.MoreThan {
		return false
	}
	clear(g.seen)
	return true
}
