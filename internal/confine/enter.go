package confine

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Budget is what a child may use from Enter on.
type Budget struct {
	Memory int64 // bytes of address space, besides what the process has already
	CPU    int64 // seconds
	Files  int   // open descriptors, all together
}

// DefaultBudget fits the largest images: 1 GiB of address space (of which Go
// touches a small part), ten minutes of CPU, and the files of a few packets of
// a folder's entries.
func DefaultBudget() Budget { return Budget{Memory: 1 << 30, CPU: 600, Files: 600} }

// Enter confines the calling process for the rest of its life and says which
// parts the kernel refused. Call it before reading anything hostile. Each part
// counts only when a canary act was refused afterwards.
func Enter(b Budget) (missing []string) {
	if err := limits(b); err != nil {
		missing = append(missing, err.Error())
	}
	runtime.LockOSThread() // no_new_privs is this thread's until TSYNC spreads it
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		missing = append(missing, "no no_new_privs: "+err.Error())
	}
	if err := forbidPaths(); err != nil {
		missing = append(missing, "no Landlock: "+err.Error())
	}
	if err := filter(); err != nil {
		missing = append(missing, "no seccomp filter: "+err.Error())
	}
	return append(missing, canaries()...)
}

// canaries try what must fail.
func canaries() (leaks []string) {
	if fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
		_ = unix.Close(fd)
		leaks = append(leaks, "it could open files")
	}
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
		_ = unix.Close(fd)
		leaks = append(leaks, "it could make sockets")
	}
	return leaks
}

func limits(b Budget) error {
	size, data := used()
	for _, l := range []struct {
		name  string
		which int
		value int64
	}{
		{"address space", unix.RLIMIT_AS, size + b.Memory},
		{"data", unix.RLIMIT_DATA, data + b.Memory},
		{"CPU time", unix.RLIMIT_CPU, b.CPU},
		{"descriptors", unix.RLIMIT_NOFILE, int64(b.Files)},
		{"core files", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
	} {
		lim := unix.Rlimit{Cur: uint64(l.value), Max: uint64(l.value)}
		if err := unix.Setrlimit(l.which, &lim); err != nil {
			return fmt.Errorf("no limit on %s: %w", l.name, err)
		}
	}
	return nil
}

// used is the address space and the data that the process has now: the Go
// runtime (and the race detector much more) reserves without touching. When
// /proc is not there, a figure that fits the plain runtime.
func used() (size, data int64) {
	const unknown = 3 << 30
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return unknown, unknown
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(string(f[1]), 10, 64)
		switch string(f[0]) {
		case "VmSize:":
			size = kb << 10
		case "VmData:":
			data = kb << 10
		}
	}
	return size, data
}
