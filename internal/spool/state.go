package spool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/durable"
)

// state is the little that a spool knows beside its segments. An older one on
// disk is always safe: more is sent again, nothing is lost.
type state struct {
	Epoch      string `json:"epoch"`
	Committed  uint64 `json:"committed"`
	FreedBelow uint64 `json:"freedBelow"` // segments below were counted into Totals
	Totals     totals `json:"totals"`
}

// totals counts what is no longer on disk.
type totals struct {
	Freed   map[api.RecordKind]uint64 `json:"freed"`   // in freed segments
	Dropped map[api.RecordKind]uint64 `json:"dropped"` // never stored
	Damaged uint64                    `json:"damaged"` // unreadable in freed segments
	Torn    uint64                    `json:"torn"`
}

func newTotals() totals {
	return totals{Freed: map[api.RecordKind]uint64{}, Dropped: map[api.RecordKind]uint64{}}
}

// free adds a segment that ends before the number end.
func (t *totals) free(g *segment, end uint64) {
	for kind, n := range g.good {
		t.Freed[kind] += n
	}
	t.Damaged += g.lost(end)
}

// Account is the balance of one kind of record since the spool was first made:
// offered to Append = Stored + Dropped.
type Account struct {
	Kind    api.RecordKind
	Stored  uint64 // given a sequence number and readable
	Dropped uint64 // refused for want of space
}

// Accounts is what became of everything that was appended. After a crash the
// counts of dropped records may be one sync interval old.
type Accounts struct {
	Kinds   []Account // incident, event, report
	Waiting uint64    // numbers not yet committed
	Bytes   int64     // on disk
	Damaged uint64    // had a number, cannot be read any more
	Torn    uint64    // times that a crash tore the end off
}

// Accounts returns the balance now.
func (s *Spool) Accounts() Accounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := Accounts{Waiting: s.next - 1 - s.commit, Bytes: s.bytes, Damaged: s.totals.Damaged, Torn: s.totals.Torn}
	stored := maps.Clone(s.totals.Freed)
	for i, g := range s.segments {
		for kind, n := range g.good {
			stored[kind] += n
		}
		end := s.next
		if i+1 < len(s.segments) {
			end = s.segments[i+1].base
		}
		a.Damaged += g.lost(end)
	}
	for _, kind := range []api.RecordKind{api.RecordIncident, api.RecordEvent, api.RecordReport} {
		a.Kinds = append(a.Kinds, Account{Kind: kind, Stored: stored[kind], Dropped: s.totals.Dropped[kind]})
	}
	return a
}

// Of returns the account of one kind.
func (a Accounts) Of(kind api.RecordKind) Account {
	for _, k := range a.Kinds {
		if k.Kind == kind {
			return k
		}
	}
	return Account{Kind: kind}
}

const stateFile = "state.json"

// loadState reads the state; known is false when there is none or it is
// damaged, and counting begins anew.
func loadState(dir string) (st state, known bool) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil || json.Unmarshal(b, &st) != nil || len(st.Epoch) != 32 {
		return state{Totals: newTotals()}, false
	}
	if st.Totals.Freed == nil || st.Totals.Dropped == nil {
		return state{Totals: newTotals()}, false
	}
	return st, true
}

// saveState replaces the state on disk, durably.
func (s *Spool) saveState() error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	s.mu.Lock()
	st := state{Epoch: s.epoch, Committed: s.commit, FreedBelow: s.segments[0].base, Totals: s.totals}
	b, err := json.Marshal(st)
	s.dirty = false
	s.mu.Unlock()
	if err == nil {
		err = durable.WriteFile(filepath.Join(s.dir, stateFile), b, 0o600)
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
	}
	return err
}

func newEpoch() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}
