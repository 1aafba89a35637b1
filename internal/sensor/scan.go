package sensor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"golang.org/x/sys/unix"
)

// scan fills the tree with the container processes that run already.
func (s *Sensor) scan() {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range entries {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		var known bpf.Proc
		p, err := ReadProcess(pid)
		if err != nil || s.objects.Procs.Lookup(uint32(pid), &known) != nil {
			continue
		}
		s.tree.put(p)
	}
}

// Enlist tells the programs that a running process belongs to a container and
// has executed inside it, as they would know had they seen it start.
func (o *Objects) Enlist(pid int, cgroup uint64, hostMountNS uint64) error {
	p, err := readStat(pid)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid), &st); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	entry := bpf.Proc{Start: p.start, Cgroup: cgroup}
	if st.Ino != hostMountNS {
		entry.Inside = 1
	}
	return o.Procs.Put(uint32(pid), entry)
}

// ReadProcess reads a process from /proc as the sensor would have told it.
func ReadProcess(pid int) (event.Process, error) {
	st, err := readStat(pid)
	if err != nil {
		return event.Process{}, err
	}
	p := event.Process{
		ID: processID(uint32(pid), st.start), PID: pid, PPID: st.ppid, Comm: st.comm,
		Started: wallTime(st.start),
	}
	if parent, err := readStat(st.ppid); err == nil {
		p.ParentID = processID(uint32(st.ppid), parent.start)
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	p.Path, _ = os.Readlink(filepath.Join(dir, "exe"))
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
		p.Args = arguments(line[:min(len(line), 384)])
	}
	var owner unix.Stat_t
	if unix.Stat(dir, &owner) == nil {
		p.UID, p.GID = owner.Uid, owner.Gid
	}
	return p, nil
}

type stat struct {
	comm  string
	ppid  int
	start uint64 // ns since boot, to the 10 ms
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return parseStat(data)
}

// parseStat reads /proc/PID/stat (proc(5)): the name may hold anything, also
// parentheses; the fields go on after the last one.
func parseStat(data []byte) (stat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("stat without a name: %q", data)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("stat with %d fields after the name", len(fields))
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("stat: parent %q", fields[1])
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("stat: start %q", fields[19])
	}
	// USER_HZ is 100 on every architecture that Go runs on.
	return stat{comm: string(data[open+1 : end]), ppid: ppid, start: ticks * 10_000_000}, nil
}
