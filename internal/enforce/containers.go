package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/cilium/ebpf"
)

// Guarded is a container that the kernel knows.
type Guarded struct {
	ID         string
	CgroupID   uint64
	Started    time.Time
	Slot       Slot
	Generation uint64   // of the policy in force for it
	Policies   []string // that took part; unknown for policies of an earlier agent
	Default    bool     // nothing was assigned: it stands under the default
}

func idKey(id string) (bpf.IDKey, error) {
	var k bpf.IDKey
	if sensor.ContainerID(id) != id || len(id) != len(k.Id) {
		return k, fmt.Errorf("container id %q: not 64 hexadecimal digits", id)
	}
	copy(k.Id[:], id)
	return k, nil
}

// Assign puts a container under a policy: one that runs from now on, one that
// is only being made from its first process on.
func (k *Kernel) Assign(containerID string, run policy.Run) error {
	key, err := idKey(containerID)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	slot, err := k.ensure(run)
	if err != nil {
		return fmt.Errorf("container %.12s: %w", containerID, err)
	}
	// In this order: a cgroup that appears in between finds the assignment.
	if err := k.objects.Assigned.Put(key, uint32(slot)); err != nil {
		return fmt.Errorf("container %.12s: assign: %w", containerID, err)
	}
	if err := k.switchTo(slot, func(c *bpf.Container) bool { return c.Id == key.Id }); err != nil {
		return fmt.Errorf("container %.12s: %w", containerID, err)
	}
	return k.collect()
}

// Forget drops what was assigned to a container that is gone.
func (k *Kernel) Forget(containerID string) error {
	key, err := idKey(containerID)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.objects.Assigned.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("container %.12s: forget: %w", containerID, err)
	}
	return k.collect()
}

// Assigned lists the ids of all containers that a policy was assigned to, by
// earlier agents too: those that run and those that do not.
func (k *Kernel) Assigned() ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ids []string
	var key bpf.IDKey
	var slot uint32
	it := k.objects.Assigned.Iterate()
	for it.Next(&key, &slot) {
		ids = append(ids, string(key.Id[:]))
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("assignments: %w", err)
	}
	return ids, nil
}

// switchTo moves containers to a slot, each in one write.
func (k *Kernel) switchTo(slot Slot, wanted func(*bpf.Container) bool) error {
	var keys []uint64
	each(k.objects.Containers, func(cgroup uint64, c bpf.Container) {
		if wanted(&c) && c.Slot != uint32(slot) {
			keys = append(keys, cgroup)
		}
	})
	for _, cgroup := range keys {
		var c bpf.Container
		if err := k.objects.Containers.Lookup(cgroup, &c); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // gone meanwhile
		} else if err != nil {
			return fmt.Errorf("containers: %w", err)
		}
		c.Slot = uint32(slot)
		err := k.objects.Containers.Update(cgroup, c, ebpf.UpdateExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("containers: %w", err)
		}
	}
	return nil
}

// switchUnassigned moves containers that stand under the old default.
func (k *Kernel) switchUnassigned(old, slot Slot) error {
	return k.switchTo(slot, func(c *bpf.Container) bool {
		return Slot(c.Slot) == old && !k.isAssigned(c.Id)
	})
}

func (k *Kernel) isAssigned(id [64]uint8) bool {
	var slot uint32
	return k.objects.Assigned.Lookup(bpf.IDKey{Id: id}, &slot) == nil
}

// Containers lists the containers that the kernel knows.
func (k *Kernel) Containers() ([]Guarded, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []Guarded
	each(k.objects.Containers, func(cgroup uint64, c bpf.Container) {
		if c.Root != cgroup {
			return // a nested group
		}
		g := Guarded{
			ID: string(c.Id[:]), CgroupID: cgroup, Started: time.Unix(0, c.StartedReal),
			Slot: Slot(c.Slot), Default: !k.isAssigned(c.Id),
		}
		var s bpf.Slot
		if k.objects.Slots.Lookup(c.Slot, &s) == nil {
			g.Generation = s.Generation
		}
		if known := k.known[g.Slot]; known != nil {
			g.Policies = known.run.Policies
		}
		list = append(list, g)
	})
	return list, nil
}

// adopt brings a container under enforcement that ran before the programs did;
// root is its cgroup's folder.
func (k *Kernel) adopt(key bpf.IDKey, root string, started time.Time) error {
	id, err := sensor.CgroupID(root)
	if err != nil {
		return err
	}
	entry := bpf.Container{Root: id, StartedReal: started.UnixNano(), Id: key.Id, Flags: bpf.ContainerAdopted}
	var slot uint32
	if k.objects.Assigned.Lookup(key, &slot) == nil {
		entry.Slot = slot
	} else if def, err := k.defaultSlot(); err == nil {
		entry.Slot = uint32(def)
	} else {
		return err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		return k.adoptGroup(path, entry)
	})
	if err != nil {
		return err
	}
	if _, err := os.Stat(root); err != nil { // gone meanwhile, and its removal was not seen
		_ = k.objects.Containers.Delete(id)
		return err
	}
	return k.enlist(root, id)
}

func (k *Kernel) adoptGroup(path string, entry bpf.Container) error {
	id, err := sensor.CgroupID(path)
	if err != nil {
		return ignoreGone(err)
	}
	err = k.objects.Containers.Update(id, entry, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}

// enlist tells the kernel of the processes that run in the container. Twice:
// those that were born in between belong to it by their parents the second time.
func (k *Kernel) enlist(root string, cgroup uint64) error {
	var c bpf.Config
	if err := k.objects.Settings.Lookup(uint32(0), &c); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for range 2 {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			pids, err := os.ReadFile(path)
			if err != nil {
				return ignoreGone(err)
			}
			for field := range strings.FieldsSeq(string(pids)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					_ = k.objects.Enlist(pid, cgroup, c.HostMntns) // it may have ended
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ignoreGone: cgroups and processes come and go while they are walked.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// AdoptRunning adopts every container that runs and that the kernel does not
// know yet, by its cgroup's name, but not the one that this process runs in. Its start is its oldest process's.
func (k *Kernel) AdoptRunning() (ids []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	root := k.objects.Hierarchy.Root
	if k.objects.Under != "" {
		root = k.objects.Under
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		id := sensor.ContainerID(path)
		if id == "" {
			return nil
		}
		key, err := idKey(id)
		if err != nil {
			return err
		}
		number, err := sensor.CgroupID(path)
		if err != nil || number == k.own {
			return filepath.SkipDir
		}
		var known bpf.Container
		if k.objects.Containers.Lookup(number, &known) == nil {
			return filepath.SkipDir
		}
		if err := k.adopt(key, path, oldest(path)); err == nil {
			ids = append(ids, id)
		}
		return filepath.SkipDir
	})
	if err != nil {
		return ids, fmt.Errorf("find running containers below %s: %w", root, err)
	}
	return ids, nil
}

// oldest is the start of the oldest process of a group; now for an empty one.
func oldest(cgroup string) time.Time {
	at := time.Now()
	pids, _ := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	for field := range strings.FieldsSeq(string(pids)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		if p, err := sensor.ReadProcess(pid); err == nil && p.Started.Before(at) {
			at = p.Started
		}
	}
	return at
}
