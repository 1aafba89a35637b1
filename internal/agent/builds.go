package agent

import (
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// builds are the image builds in flight, as each gate says, again and again: a
// gate that falls silent is dead, and what it said ends. The zero value has
// none.
type builds struct {
	of map[string]buildsOf // by gate
}

type buildsOf struct {
	running int
	until   time.Time
}

// set takes what a gate says now.
func (b *builds) set(note api.GateNote, now time.Time) {
	if b.of == nil {
		b.of = map[string]buildsOf{}
	}
	for gate, said := range b.of {
		if now.After(said.until) {
			delete(b.of, gate)
		}
	}
	delete(b.of, note.Gate)
	if note.Builds > 0 {
		b.of[note.Gate] = buildsOf{note.Builds, now.Add(api.GateNoteHolds)}
	}
}

func (b *builds) running(now time.Time) int {
	n := 0
	for _, said := range b.of {
		if !now.After(said.until) {
			n += said.running
		}
	}
	return n
}
