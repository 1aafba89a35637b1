package detect

import (
	"container/list"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of what is remembered about repeated incidents.
const (
	repeatWindow = 10 * time.Minute
	maxRepeats   = 10_000
)

// repeats remembers which incidents were told lately. The least recently seen
// is forgotten first: then an incident is told again, never lost.
type repeats struct {
	mu    sync.Mutex
	byKey map[repeatKey]*list.Element
	order *list.List // of *repeat, the most recently seen first
}

// repeatKey is what makes two incidents the same one again.
type repeatKey struct{ what, container, program, object, outcome string }

type repeat struct {
	key     repeatKey
	first   time.Time // of the window
	total   uint64    // in the window
	counted uint64    // since it was told last
}

func newRepeats() *repeats {
	return &repeats{byKey: map[repeatKey]*list.Element{}, order: list.New()}
}

// tell says whether the incident is to be told, and how often it happened
// silently since it last was.
func (e *Engine) tell(what string, ev event.Event, d event.Decision) (times uint64, tell bool) {
	callerActs := d.Outcome == event.Detected && !d.Audit && d.Effect.Rank() > event.EffectAlert.Rank() ||
		d.Effect.Rank() > event.EffectKill.Rank() && !d.Audit
	key := repeatKey{what: what, container: orEmpty(ev.Container).ID, outcome: string(d.Outcome)}
	p, x := orEmpty(ev.Process), orEmpty(ev.Exec)
	key.program = p.Path + "\x00" + p.Comm
	rule := e.rules.byID[what]
	switch {
	case rule != nil && rule.Count != nil: // the last of many, of which none is the object
		_, key.object, _ = rule.Count.valuesOf(ev)
	case ev.Exec != nil:
		key.object = x.Path + "\x00" + x.Script
	case ev.File != nil:
		key.object = ev.File.Path
	case ev.Network != nil:
		key.object = peer(ev.Network)
	}
	return e.repeats.seen(key, ev.Time, callerActs)
}

func (r *repeats) seen(key repeatKey, at time.Time, force bool) (times uint64, tell bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	element := r.byKey[key]
	if element == nil {
		r.byKey[key] = r.order.PushFront(&repeat{key: key, first: at, total: 1})
		r.forget()
		return 0, true
	}
	r.order.MoveToFront(element)
	have := element.Value.(*repeat)
	have.total++
	// A clock that went back must not silence anything.
	if age := at.Sub(have.first); age < 0 || age >= repeatWindow {
		have.first, have.total = at, 1
	}
	if !force && !milestone(have.total) {
		have.counted++
		return 0, false
	}
	times, have.counted = have.counted, 0
	return times, true
}

// milestone holds for 1, 10, 100, …: a flood is told in a few incidents, each
// with how much it grew.
func milestone(n uint64) bool {
	for n > 1 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}

func (r *repeats) forget() {
	for r.order.Len() > maxRepeats {
		oldest := r.order.Back()
		delete(r.byKey, oldest.Value.(*repeat).key)
		r.order.Remove(oldest)
	}
}
