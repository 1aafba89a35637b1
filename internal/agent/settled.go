package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

// settled remembers, across agents, which containers were dealt with: judged,
// let through by the gate, or there before Breakwater. Of the others an agent
// that was killed between their start and their judgement leaves nothing but
// their policy in the kernel; the next agent judges them as if they appeared
// now. Safe for concurrent use.
type settled struct {
	path  string
	first bool // no agent kept this record before

	mu sync.Mutex
	// byID has the cgroup of each, for a container that is started again has
	// another one; 0 for one whose cgroup is not there yet.
	byID map[string]uint64
}

func openSettled(dir string) (*settled, error) {
	s := &settled{path: filepath.Join(dir, "settled.json"), byID: map[string]uint64{}}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.first = true
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s.byID)
	}
	if err != nil { // what is not known was there before: starting must not end what runs
		s.first, s.byID = true, map[string]uint64{}
		return s, fmt.Errorf("containers that were judged: %s: %w", s.path, err)
	}
	return s, nil
}

// has says whether a container was dealt with; assigned tells whether an
// agent had given it a policy, which is all that is known without a record.
func (s *settled) has(id string, cgroup uint64, assigned bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first {
		return assigned
	}
	known, ok := s.byID[id]
	return ok && (known == cgroup || known == 0)
}

// add takes note of containers, durably.
func (s *settled) add(containers map[string]uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.byID)
	maps.Copy(s.byID, containers)
	if maps.Equal(before, s.byID) && !s.first {
		return nil
	}
	return s.write()
}

// remove forgets a container whose cgroup is gone, unless it has another one
// by now.
func (s *settled) remove(id string, cgroup uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.byID[id]; !ok || cgroup != 0 && known != 0 && known != cgroup {
		return nil
	}
	delete(s.byID, id)
	return s.write()
}

func (s *settled) write() error {
	raw, err := json.Marshal(s.byID)
	if err == nil {
		err = writeDurably(s.path, raw)
	}
	return err
}
