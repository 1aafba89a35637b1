package resource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// Use is what a container used until, or uses at, one moment. What cannot be
// read on this host is absent.
type Use struct {
	At time.Time
	// Totals since the container began: cpu in microseconds, diskWrites and
	// network in bytes.
	Totals map[policy.Resource]uint64
	// Levels now: memory in bytes, pids, files.
	Levels map[policy.Resource]uint64
	// Frozen: the container is paused.
	Frozen bool
}

// Want says what is read that costs more than the rest.
type Want struct {
	Files bool // descriptors are counted
	// MemoryAbove: only of a container that has more than that is the file cache
	// looked at, which does not count.
	MemoryAbove uint64
}

// maxProcesses bounds of how many processes of one container descriptors and
// writes are counted; maxGroups how many groups it made within its own are read.
const (
	maxProcesses = 512
	maxGroups    = 256
)

// Read measures one container that Find found.
func (c *Cgroups) Read(id string, want Want) (Use, error) {
	u := Use{At: time.Now(), Totals: map[policy.Resource]uint64{}, Levels: map[policy.Resource]uint64{}}
	if err := c.readCPU(id, &u); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			c.lost(id)
			err = fmt.Errorf("container %s: %w", id, ErrUnknown)
		}
		return u, err
	}
	u.Frozen = c.frozen(id)
	c.readMemory(id, want.MemoryAbove, &u)
	if dir, _, err := c.dir(id, "pids"); err == nil {
		u.level(policy.ResourcePIDs, dir, "pids.current")
	}
	processes := c.processes(id)
	if len(processes) > 0 {
		if n, ok := networkOf(processes[0]); ok {
			u.Totals[policy.ResourceNetwork] = n
		}
	}
	c.readWrites(id, processes, &u)
	if want.Files {
		u.Levels[policy.ResourceFiles] = descriptors(processes)
	}
	return u, nil
}

func (u *Use) level(r policy.Resource, dir, file string) {
	if n, err := number(filepath.Join(dir, file)); err == nil {
		u.Levels[r] = n
	}
}

func (c *Cgroups) readCPU(id string, u *Use) error {
	dir, legacy, err := c.dir(id, "cpuacct")
	if err != nil {
		return err
	}
	var n uint64
	if legacy {
		n, err = number(filepath.Join(dir, "cpuacct.usage"))
		n /= 1000 // nanoseconds
	} else {
		n, err = field(filepath.Join(dir, "cpu.stat"), "usage_usec")
	}
	if err == nil {
		u.Totals[policy.ResourceCPU] = n
	}
	return err
}

func (c *Cgroups) frozen(id string) bool {
	dir, legacy, err := c.dir(id, "freezer")
	if err != nil {
		return false
	}
	if !legacy {
		n, err := field(filepath.Join(dir, "cgroup.events"), "frozen")
		return err == nil && n == 1
	}
	state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
	return err == nil && strings.TrimSpace(string(state)) != "THAWED"
}

// readMemory leaves out what of the file cache was not used for long, as
// kubelet and docker stats do: the kernel takes it back when it needs it.
func (c *Cgroups) readMemory(id string, above uint64, u *Use) {
	dir, legacy, err := c.dir(id, "memory")
	if err != nil {
		return
	}
	file, cache := "memory.current", "inactive_file"
	if legacy {
		file, cache = "memory.usage_in_bytes", "total_inactive_file"
	}
	u.level(policy.ResourceMemory, dir, file)
	if has := u.Levels[policy.ResourceMemory]; has > above {
		if n, err := field(filepath.Join(dir, "memory.stat"), cache); err == nil {
			u.Levels[policy.ResourceMemory] = has - min(n, has)
		}
	}
}

// readWrites: v2 accounts every write to the group that made it. v1 misses what
// passes through the cache (admin-guide/cgroup-v1/blkio-controller), so there
// the processes' own accounts are added up, which parents inherit.
func (c *Cgroups) readWrites(id string, processes []int, u *Use) {
	dir, legacy, err := c.dir(id, "blkio")
	if err != nil {
		return
	}
	var total uint64
	if !legacy {
		raw, err := os.ReadFile(filepath.Join(dir, "io.stat"))
		if err != nil {
			return // the controller is not enabled here
		}
		for _, word := range strings.Fields(string(raw)) {
			if value, ok := strings.CutPrefix(word, "wbytes="); ok {
				n, _ := strconv.ParseUint(value, 10, 64)
				total += n
			}
		}
		u.Totals[policy.ResourceDiskWrites] = total
		return
	}
	for _, pid := range processes {
		if n, err := field(fmt.Sprintf("/proc/%d/io", pid), "write_bytes:"); err == nil {
			total += n
			u.Totals[policy.ResourceDiskWrites] = total
		}
	}
}

// processes of a container, also those in groups that it made itself.
func (c *Cgroups) processes(id string) []int {
	dir, _, err := c.dir(id, "pids")
	if err != nil {
		return nil
	}
	var pids []int
	groups := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if groups++; groups > maxGroups || len(pids) >= maxProcesses {
			return fs.SkipAll
		}
		raw, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(raw)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 && len(pids) < maxProcesses {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// networkOf is what the network interfaces of the process's namespace received
// and sent (proc_pid_net(5)), without loopback; not ok in the host's own.
func networkOf(pid int) (bytes uint64, ok bool) {
	own, err := os.Readlink("/proc/1/ns/net")
	if err != nil { // it is not for us to look at; most agents live in the host's network
		if own, err = os.Readlink("/proc/self/ns/net"); err != nil {
			return 0, false
		}
	}
	if of, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil || of == own {
		return 0, false
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, false
	}
	return traffic(string(raw)), true
}

func traffic(dev string) (bytes uint64) {
	for line := range strings.Lines(dev) {
		name, counts, ok := strings.Cut(line, ":")
		fields := strings.Fields(counts)
		if !ok || len(fields) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		for _, i := range []int{0, 8} { // bytes received, bytes sent
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			bytes += n
		}
	}
	return bytes
}

// descriptors counts open ones. Since Linux 6.2 the size of /proc/PID/fd is
// their number; before, its entries are.
func descriptors(processes []int) (n uint64) {
	for _, pid := range processes {
		path := fmt.Sprintf("/proc/%d/fd", pid)
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			n += uint64(st.Size())
			continue
		}
		n += entries(path)
	}
	return n
}

// maxEntries is how many descriptors of one process are counted.
const maxEntries = 1 << 16

func entries(path string) (n uint64) {
	d, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer d.Close()
	for n < maxEntries {
		names, err := d.Readdirnames(1024)
		n += uint64(len(names))
		if err != nil {
			break
		}
	}
	return n
}

func number(path string) (uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// field reads one "name value" line.
func field(path, name string) (uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// Amounts is the use between two moments in the units of policy.Limit: rates of
// what adds up, levels of the rest.
func (u Use) Amounts(before Use) map[policy.Resource]uint64 {
	amounts := map[policy.Resource]uint64{}
	for r, n := range u.Levels {
		amounts[r] = n
	}
	elapsed := uint64(u.At.Sub(before.At).Microseconds())
	if before.At.IsZero() || !u.At.After(before.At) || elapsed == 0 {
		return amounts
	}
	for r, n := range u.Totals {
		was, ok := before.Totals[r]
		if !ok {
			continue
		}
		used := float64(n - min(was, n)) // what processes took along when they ended is not known
		per := float64(time.Second.Microseconds())
		if r == policy.ResourceCPU {
			per = 1000 // thousandths of a core
		}
		amounts[r] = uint64(used * per / float64(elapsed))
	}
	return amounts
}
