package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// excepted passes over what exceptions of the policy bundle in force are about, and
// counts it. The counts outlive the agent, but for what a kill costs since they were
// last told. Safe for concurrent use.
type excepted struct {
	path     string
	policies *policies

	mu    sync.Mutex
	byID  map[int64]event.Excepted
	dirty bool
}

func openExcepted(dir string, policies *policies) (*excepted, error) {
	x := &excepted{path: filepath.Join(dir, "excepted.json"), policies: policies, byID: map[int64]event.Excepted{}}
	raw, err := os.ReadFile(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &x.byID)
	}
	if err != nil {
		x.byID = map[int64]event.Excepted{}
		return x, fmt.Errorf("counts of exceptions: %w: they begin anew", err)
	}
	return x, nil
}

// has says whether an exception covers an act, and counts it then.
func (x *excepted) has(detection string, d event.Decision, ev event.Event) bool {
	now := time.Now()
	for _, e := range x.policies.exceptions() {
		if !now.Before(e.Ends) || !detect.Covers(e, detection, d, ev) {
			continue
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		c := x.byID[e.ID]
		c.ID, c.Last, c.Outcome = e.ID, ev.Time, d.Outcome
		c.Count++
		if ev.Container != nil {
			c.Container = ev.Container.Name
		}
		x.byID[e.ID], x.dirty = c, true
		return true
	}
	return false
}

// counts lists what the exceptions in force passed over, and writes it down.
func (x *excepted) counts() ([]event.Excepted, error) {
	known := map[int64]bool{}
	for _, e := range x.policies.exceptions() {
		known[e.ID] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.byID, func(id int64, _ event.Excepted) bool { return !known[id] })
	var out []event.Excepted
	for _, id := range slices.Sorted(maps.Keys(x.byID)) {
		out = append(out, x.byID[id])
	}
	if !x.dirty {
		return out, nil
	}
	raw, err := json.Marshal(x.byID)
	if err == nil {
		err = writeDurably(x.path, raw)
	}
	x.dirty = err != nil
	return out, err
}
