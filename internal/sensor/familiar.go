package sensor

import (
	"crypto/rand"
	"encoding/binary"
	"sync"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/cilium/ebpf"
)

// familiarCapacity is how many executions are remembered: the size of the
// programs' map.
const familiarCapacity = 8192

// familiar remembers executions by their digests: what they made a process run,
// and in the programs' map those that need not be told again. The oldest are
// forgotten first, and told again when they come again. Safe for concurrent use.
type familiar struct {
	known counts

	mu         sync.Mutex
	generation uint64
	acts       map[uint64]act
	order      []uint64 // digests in the order they came
}

// counts is the programs' map: digests of executions, and how often each went
// untold.
type counts interface {
	Put(key, value any) error
	Delete(key any) error
}

// act is one execution.
type act struct {
	container string
	path      string
	args      []string
	again     bool // it came more than once
	untold    bool // it is in the programs' map
}

func newFamiliar(known counts) *familiar {
	return &familiar{known: known, acts: make(map[uint64]act)}
}

// now is the generation to settle an execution in that is looked at from here on.
func (f *familiar) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generation
}

// learn takes an execution.
func (f *familiar) learn(digest uint64, container string, p event.Process) {
	if digest == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, known := f.acts[digest]
	f.acts[digest] = act{container: container, path: p.Path, args: p.Args, again: known, untold: old.untold}
	if known {
		return
	}
	f.order = append(f.order, digest)
	if len(f.order) > familiarCapacity {
		f.leave(f.order[0])
		delete(f.acts, f.order[0])
		f.order = f.order[1:]
	}
}

// settle says that nothing came of an execution that was looked at since the
// generation: it is not told again. Of those that come once, which are most of
// what is new, the programs' map is not told. When something was forgotten meanwhile, it
// was looked at under what no longer holds.
func (f *familiar) settle(digest, since uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, known := f.acts[digest]
	if !known || !a.again || a.untold || f.generation != since {
		return
	}
	a.untold = f.known.Put(digest, bpf.Repeats{}) == nil
	f.acts[digest] = a
}

// program is what an execution makes a process run.
func (f *familiar) program(digest uint64) (path string, args []string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.acts[digest]
	return a.path, a.args, ok
}

// forget lets executions of a container, or with no name all, be told again.
func (f *familiar) forget(container string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation++
	for digest, a := range f.acts {
		if container == "" || a.container == container {
			f.leave(digest)
		}
	}
}

// leave takes an execution out of the programs' map. f.mu is held.
func (f *familiar) leave(digest uint64) {
	if a := f.acts[digest]; a.untold {
		_ = f.known.Delete(digest) // it is the only owner's: it is there
		a.untold = false
		f.acts[digest] = a
	}
}

// rekey gives the programs a new secret to digest executions with, and empties
// what an earlier agent, whose knowledge is lost, left in their map.
func (o *Objects) rekey() error {
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	err := o.set(func(c *bpf.Config) {
		c.Secret = [2]uint64{binary.NativeEndian.Uint64(secret[:8]), binary.NativeEndian.Uint64(secret[8:])}
	})
	if err != nil {
		return err
	}
	return empty(o.Familiar)
}

// empty removes every entry of a map with keys of 64 bits.
func empty(m *ebpf.Map) error {
	var keys []uint64
	var key uint64
	var value bpf.Repeats
	it := m.Iterate()
	for it.Next(&key, &value) {
		keys = append(keys, key)
	}
	for _, key := range keys {
		_ = m.Delete(key) // or somebody else did
	}
	return it.Err()
}

// stranger is a process that ended and was never told of, as far as it is known.
func (s *Sensor) stranger(pid int) (p event.Process, found bool) {
	var left bpf.Stranger
	if s.objects.Strangers.Lookup(uint32(pid), &left) != nil {
		return p, false
	}
	p = event.Process{ID: processID(uint32(pid), left.Start), PID: pid, Started: s.decoder.now(left.Start)}
	p.Path, p.Args, _ = s.familiar.program(left.Act)
	return p, true
}

// lately is what is known of the process that had this pid last; empty when
// nothing is.
func (s *Sensor) lately(pid int) event.Process {
	p := s.tree.byPID(pid)
	if stranger, found := s.stranger(pid); found && (p.ID == "" || p.Path == "" || stranger.Started.After(p.Started)) {
		return stranger
	}
	return p
}

// entered are the containers whose files are asked about. The zero value is
// none. Safe for concurrent use.
type entered struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (e *entered) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ids == nil {
		e.ids = map[string]bool{}
	}
	e.ids[id] = true
}

func (e *entered) remove(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ids, id)
}

func (e *entered) has(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ids[id]
}
