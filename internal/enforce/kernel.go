package enforce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/cilium/ebpf"
)

// Options say how to load; see sensor.Options.
type Options = sensor.Options

// Slot is the number of a compiled policy in the kernel.
type Slot uint32

// slotQuarantine is how long an unused slot is left filled: a program that
// read its number a moment ago may still be about to use it.
const slotQuarantine = 10 * time.Second

// Kernel is the enforcement in the kernel. Its methods are safe for concurrent
// use.
type Kernel struct {
	objects *sensor.Objects
	own     uint64 // the cgroup of the container that this process runs in; 0: none

	mu      sync.Mutex
	known   map[Slot]*compiled       // slots whose rules this process can name
	unused  map[Slot]time.Time       // since when
	watched map[bpf.PathKey]struct{} // keys in slot 0
}

// Open loads the programs, or takes up what an earlier agent left in force.
func Open(ctx context.Context, opts Options) (*Kernel, error) {
	o, err := sensor.Load(ctx, opts)
	if err != nil {
		return nil, err
	}
	k := &Kernel{
		objects: o, known: map[Slot]*compiled{},
		unused: map[Slot]time.Time{}, watched: map[bpf.PathKey]struct{}{},
	}
	if k.own, err = o.SpareOwn(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	if err := k.readWatched(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return k, nil
}

// Objects is what a sensor reads from; it lives as long as the Kernel.
func (k *Kernel) Objects() *sensor.Objects { return k.objects }

// Fresh: no earlier agent's policies and containers were found.
func (k *Kernel) Fresh() bool { return k.objects.Fresh }

// Settle ends the work of programs of an older version, once policies and
// containers are set; without an older version it does nothing.
func (k *Kernel) Settle() error { return k.objects.Settle() }

// Close lets go; everything stays in force.
func (k *Kernel) Close() error { return k.objects.Close() }

// Unload removes programs and maps: nothing is enforced any more.
func (k *Kernel) Unload() error { return k.objects.Unload() }

// Accounts counts the kernel's events per kind; see sensor.Objects.Accounts.
func (k *Kernel) Accounts() ([]event.Account, error) { return k.objects.Accounts() }

// LostDecisions is how many decisions were carried out and told to nobody; see
// sensor.Objects.LostDecisions.
func (k *Kernel) LostDecisions() (uint64, error) { return k.objects.LostDecisions() }

// SetDefault names the policy of containers that nothing was assigned to, those
// too that start while no agent runs.
func (k *Kernel) SetDefault(run policy.Run) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	slot, err := k.ensure(run)
	if err != nil {
		return fmt.Errorf("default policy: %w", err)
	}
	old, err := k.defaultSlot()
	if err != nil {
		return err
	}
	if err := k.objects.SetDefaultSlot(uint32(slot)); err != nil {
		return err
	}
	// Containers without an assignment stand under the default.
	if err := k.switchUnassigned(old, slot); err != nil {
		return err
	}
	return k.collect()
}

func (k *Kernel) defaultSlot() (Slot, error) {
	var c bpf.Config
	if err := k.objects.Settings.Lookup(uint32(0), &c); err != nil {
		return 0, fmt.Errorf("settings: %w", err)
	}
	return Slot(c.DefaultSlot), nil
}

// ensure returns the slot of a policy, filling one where there is none yet.
func (k *Kernel) ensure(run policy.Run) (Slot, error) {
	c, err := compile(run)
	if err != nil {
		return 0, err
	}
	slot, free, err := k.find(c.slot.Content)
	if err != nil {
		return 0, err
	}
	if slot == 0 {
		if free == 0 {
			return 0, errors.New("all 1023 policy slots of the kernel are in use")
		}
		slot = free
		if err := k.fill(slot, c); err != nil {
			return 0, errors.Join(err, k.clear(slot))
		}
	}
	k.known[slot] = c
	delete(k.unused, slot)
	return slot, nil
}

// find looks for a slot with this content, and for a free one.
func (k *Kernel) find(content [32]uint8) (found, free Slot, err error) {
	for i := uint32(1); i < k.objects.Slots.MaxEntries(); i++ {
		var s bpf.Slot
		if err := k.objects.Slots.Lookup(i, &s); err != nil {
			return 0, 0, fmt.Errorf("policy slots: %w", err)
		}
		if s.Used != 0 && s.Content == content {
			return Slot(i), 0, nil
		}
		if s.Used == 0 && free == 0 {
			free = Slot(i)
		}
	}
	return 0, free, nil
}

// fill writes the rules first: nobody reads them before the slot is named.
func (k *Kernel) fill(slot Slot, c *compiled) error {
	for _, e := range c.paths {
		if err := k.objects.Paths.Put(e.key(uint32(slot)), e.rule); err != nil {
			return fmt.Errorf("path rule %s: %w", e.path, err)
		}
	}
	for _, e := range c.files {
		if err := k.objects.Paths.Put(e.key(bpf.FilesSlot+uint32(slot)), e.rule); err != nil {
			return fmt.Errorf("rule about files %s: %w", e.path, err)
		}
	}
	if len(c.files) > 0 {
		if err := k.objects.SetFileRules(); err != nil {
			return err
		}
	}
	for _, e := range c.networks {
		if err := k.objects.Networks.Put(e.key(uint32(slot)), e.rules); err != nil {
			return fmt.Errorf("network rule %s: %w", e.prefix, err)
		}
	}
	if err := k.objects.Slots.Put(uint32(slot), c.slot); err != nil {
		return fmt.Errorf("policy slot %d: %w", slot, err)
	}
	return nil
}

// clear empties a slot that nobody names.
func (k *Kernel) clear(slot Slot) error {
	if err := k.objects.Slots.Put(uint32(slot), bpf.Slot{}); err != nil {
		return fmt.Errorf("policy slot %d: %w", slot, err)
	}
	paths := keysWhere(k.objects.Paths, func(p bpf.PathKey) bool {
		return p.Slot == uint32(slot) || p.Slot == bpf.FilesSlot+uint32(slot)
	})
	networks := keysWhere(k.objects.Networks, func(n bpf.NetKey) bool { return n.Slot == uint32(slot) })
	return errors.Join(remove(k.objects.Paths, paths), remove(k.objects.Networks, networks))
}

// collect empties slots that nobody has used for a while.
func (k *Kernel) collect() error {
	used, err := k.used()
	if err != nil {
		return err
	}
	now := time.Now()
	for i := uint32(1); i < k.objects.Slots.MaxEntries(); i++ {
		var s bpf.Slot
		if err := k.objects.Slots.Lookup(i, &s); err != nil {
			return fmt.Errorf("policy slots: %w", err)
		}
		slot := Slot(i)
		since, waiting := k.unused[slot]
		switch {
		case s.Used == 0:
		case used[slot]:
			delete(k.unused, slot)
		case !waiting:
			k.unused[slot] = now
		case now.Sub(since) > slotQuarantine:
			delete(k.unused, slot)
			delete(k.known, slot)
			if err := k.clear(slot); err != nil {
				return err
			}
		}
	}
	return nil
}

// used lists the slots that something names.
func (k *Kernel) used() (map[Slot]bool, error) {
	def, err := k.defaultSlot()
	if err != nil {
		return nil, err
	}
	used := map[Slot]bool{def: true}
	each(k.objects.Assigned, func(_ bpf.IDKey, slot uint32) { used[Slot(slot)] = true })
	each(k.objects.Containers, func(_ uint64, c bpf.Container) { used[Slot(c.Slot)] = true })
	return used, nil
}

// each calls f for every entry. Entries that come or go meanwhile may be left
// out; the programs' own writes are not held up.
func each[K, V any](m *ebpf.Map, f func(K, V)) {
	var key K
	var value V
	it := m.Iterate()
	for it.Next(&key, &value) {
		f(key, value)
	}
}

func keysWhere[K any](m *ebpf.Map, wanted func(K) bool) []K {
	var list []K
	var key, next K
	for err := m.NextKey(nil, &next); err == nil; err = m.NextKey(key, &next) {
		key = next
		if wanted(key) {
			list = append(list, key)
		}
	}
	return list
}

func remove[K any](m *ebpf.Map, keys []K) error {
	var errs []error
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("map %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}
