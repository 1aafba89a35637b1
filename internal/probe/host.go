//go:build linux

package probe

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// describeHost fills in what the kernel says of itself.
func describeHost(d *event.Doctor) {
	if name, err := os.Hostname(); err == nil {
		d.Host = name
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		d.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		d.Notes = append(d.Notes, "the mounts of this host cannot be read: "+err.Error())
		return
	}
	d.Hierarchy = readHierarchies(string(mounts)).kind()
	if !strings.Contains(string(mounts), " bpf ") {
		d.Notes = append(d.Notes, bpffsNote())
	}
}

// bpffsNote: programs outlive the agent by being pinned in a BPF file system.
func bpffsNote() string {
	known, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(known), "\tbpf\n") {
		return "no BPF file system is mounted; the agent mounts one at /sys/fs/bpf"
	}
	return "this kernel has no BPF file system: enforcement ends with the agent"
}
