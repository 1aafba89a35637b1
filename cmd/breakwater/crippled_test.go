package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A host that lacks something, made from one that has it: `without THING
// PROGRAM ARG…` takes the thing away from itself and becomes the program. The
// rest of the machine keeps it.
var lacks = map[string]func() error{
	// The kernel describes its types nowhere.
	"btf": func() error { return cover("/sys/kernel/btf") },
	// bpf(2) is refused, as by a container's seccomp profile.
	"bpf": refuseBPF,
	// Root in a container that was given nothing.
	"capabilities": func() error {
		return dropCapabilities(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN)
	},
	// Root in a container that was given CAP_SYS_ADMIN and not the rest.
	"net-admin":   func() error { return dropCapabilities(unix.CAP_NET_ADMIN) },
	"bpffs":       noBPFFS,
	"writing-sys": readOnlySys,
	"cgroups":     func() error { return cover("/sys/fs/cgroup") },
}

// withoutMain is the program `without`.
func withoutMain() {
	if err := becomeWithout(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "without:", err)
		os.Exit(125)
	}
}

func becomeWithout(args []string) error {
	if len(args) < 2 || lacks[args[0]] == nil {
		return errors.New("usage: without THING PROGRAM ARG…")
	}
	program, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // exec keeps this thread's namespace, filter and capabilities
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := lacks[args[0]](); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return syscall.Exec(program, args[1:], os.Environ())
}

// cover hides a folder, and what is mounted below it, under an empty one.
func cover(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return err
		}
	}
	return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "")
}

// noBPFFS: none is mounted anywhere. Tests that run beside this one mount their own.
func noBPFFS() error {
	if err := cover("/sys/fs/bpf"); err != nil {
		return err
	}
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "bpf" {
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountsBelow are the mounts at and below a folder, the innermost first.
func mountsBelow(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, line := range strings.Split(string(table), "\n") {
		if f := strings.Fields(line); len(f) > 1 && (f[1] == dir || strings.HasPrefix(f[1], dir+"/")) {
			found = append(found, f[1])
		}
	}
	slices.Reverse(found)
	return found, nil
}

// readOnlySys leaves /sys and all that is mounted below it to be read only, as
// containers get it.
func readOnlySys() error {
	mounts, err := mountsBelow("/sys")
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	return nil
}

// dropCapabilities takes them out of the bounding set: an exec by root loses them.
func dropCapabilities(caps ...uintptr) error {
	for _, c := range caps {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// refuseBPF puts a filter on this thread by which bpf(2) fails with EPERM.
func refuseBPF() error {
	const returnErrno, returnAllow = 0x00050000, 0x7fff0000 // include/uapi/linux/seccomp.h
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: returnErrno | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: returnAllow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
