package sensor

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/bpf"
	"golang.org/x/sys/unix"
)

// groupOf is the process that a thread belongs to (proc_pid_status(5)); the
// thread itself when nothing tells.
func groupOf(tid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return tid
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				return pid
			}
		}
	}
	return tid
}

// opensForWriting reads from the registers of a thread that waits in a call
// (proc_pid_syscall(5)) whether it opens for writing. sure is false for calls
// whose flags are in memory, which may have changed, or that are not known.
func opensForWriting(tid int) (write, sure bool) {
	path := fmt.Sprintf("/proc/%d/syscall", tid)
	for range askedToSleep {
		raw, err := os.ReadFile(path)
		if err != nil {
			return true, false
		}
		if !isRunning(raw) {
			return writes(string(raw), runtime.GOARCH)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true, false
}

// askedToSleep is how often a thread is looked at that asked for an opening and has
// not come to wait for the answer yet: for some ten milliseconds.
const askedToSleep = 100

// isRunning: the kernel shows no registers of a thread that runs.
func isRunning(call []byte) bool { return strings.HasPrefix(string(call), "running") }

// writes parses the call's number and arguments. Numbers that mean an opening in
// one of amd64's two tables mean none in the other.
func writes(line, arch string) (write, sure bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return true, false
	}
	at := 0
	switch arch + " " + fields[0] {
	case "amd64 2", "amd64 5", "arm64 5": // open
		at = 2
	case "amd64 257", "amd64 295", "arm64 56", "arm64 322": // openat
		at = 3
	case "amd64 304", "amd64 342", "arm64 265", "arm64 371": // open_by_handle_at
		at = 3
	case "amd64 85", "amd64 8", "arm64 8": // creat
		return true, true
	case "amd64 59", "amd64 322", "arm64 221", "arm64 281": // execve, execveat
		return false, true
	default:
		return true, false
	}
	flags, err := strconv.ParseUint(strings.TrimPrefix(fields[at], "0x"), 16, 64)
	if err != nil {
		return true, false
	}
	return flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0, true
}

// v1Roots are where the v1 hierarchies of this mount namespace are mounted.
func v1Roots() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup mounts: %w", err)
	}
	defer f.Close()
	var roots []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		left := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup ") && len(left) >= 5 && left[3] == "/" {
			roots = append(roots, left[4])
		}
	}
	return roots, sc.Err()
}

// containerOf says which container a process belongs to, as the programs do: by
// its lineage, else by its cgroup. The runtime's own set-up is none.
func (o *Objects) containerOf(pid int) (c bpf.Container, slot bpf.Slot, ok bool) {
	var conf bpf.Config
	if o.Settings.Lookup(uint32(0), &conf) != nil {
		return c, slot, false
	}
	p, known := o.procOf(pid)
	if known && o.container(p.Cgroup, &c) {
		ok = true
	} else {
		ok = o.container(o.cgroupOf(pid), &c)
	}
	if !ok || o.Slots.Lookup(c.Slot, &slot) != nil {
		return c, slot, false
	}
	var st unix.Stat_t
	if p.Inside == 0 && unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid), &st) == nil && st.Ino == conf.HostMntns {
		return c, slot, false
	}
	return c, slot, true
}

// running lists processes that run inside of containers, with the container's id.
func (o *Objects) running() map[int]string {
	list := map[int]string{}
	var pid uint32
	var p bpf.Proc
	for it := o.Procs.Iterate(); it.Next(&pid, &p); {
		var c bpf.Container
		if p.Inside != 0 && o.container(p.Cgroup, &c) {
			list[int(pid)] = text(c.Id[:])
		}
	}
	return list
}

// slotOf is the number of the rules that a container stands under; 0, that of none,
// when it is not known.
func (o *Objects) slotOf(id string) uint32 {
	var cgroup uint64
	var c bpf.Container
	for it := o.Containers.Iterate(); it.Next(&cgroup, &c); {
		if text(c.Id[:]) == id {
			return c.Slot
		}
	}
	return 0
}

// procOf is what the programs know of a process, unless its number was another
// one's.
func (o *Objects) procOf(pid int) (p bpf.Proc, ok bool) {
	if o.Procs.Lookup(uint32(pid), &p) != nil {
		return bpf.Proc{}, false
	}
	if st, err := readStat(pid); err != nil || st.start != p.Start {
		return bpf.Proc{}, false
	}
	return p, true
}

// container finds the container of a cgroup, nested ones' too.
func (o *Objects) container(cgroup uint64, c *bpf.Container) bool {
	if o.Containers.Lookup(cgroup, c) != nil {
		return false
	}
	return c.Root == cgroup || o.Containers.Lookup(c.Root, c) == nil
}

// cgroupOf is the number of a process's cgroup in the hierarchy that tells
// containers apart (proc_pid_cgroup in cgroups(7)); 0 when it is gone.
func (o *Objects) cgroupOf(pid int) uint64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(part) != 3 || part[0] != strconv.Itoa(o.Hierarchy.ID) {
			continue
		}
		id, err := CgroupID(filepath.Join(o.Hierarchy.Root, part[2]))
		if err != nil {
			return 0
		}
		return id
	}
	return 0
}
