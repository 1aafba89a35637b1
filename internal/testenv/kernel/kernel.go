// Package kernel runs Go test binaries in guest kernels that have what the
// machine's own kernel lacks (BPF LSM above all) or lacks on purpose (a kernel
// that was booted without it). A guest is a stock Debian kernel under QEMU's
// own emulation: no KVM, no disk, no network; a boot takes 3 to 10 seconds.
//
// The ways of a run: Fetch makes sure of QEMU and the kernels in a cache
// folder, Compile and WriteInitrd make the guest's only file system, Boot runs
// it, and Parse judges what the serial console said. A run in which a test
// fails, nothing ran, or the guest died early is an error, never a pass.
package kernel

import "fmt"

// Hierarchy is how a guest mounts its cgroups.
type Hierarchy string

// The hierarchies.
const (
	CgroupV1     Hierarchy = "v1"     // controllers each on their own, no v2 mount
	CgroupV2     Hierarchy = "v2"     // one tree at /sys/fs/cgroup, controllers enabled below the root
	CgroupHybrid Hierarchy = "hybrid" // v1 controllers, and v2 without controllers at /sys/fs/cgroup/unified
)

// Guest is one way to boot.
type Guest struct {
	Series string // of the kernel: "6.1", "6.12"
	Cgroup Hierarchy
	LSM    bool // bpf is in the kernel's lsm= list
	Return bool // programs stand in for return values
}

// String names a guest, as the subtests are named.
func (g Guest) String() string {
	lsm := "lsm"
	if !g.LSM {
		lsm = "nolsm"
	}
	if g.Return {
		lsm = "return"
	}
	return fmt.Sprintf("%s-%s-%s", g.Series, g.Cgroup, lsm)
}

// Guests is the matrix: both kernels with BPF LSM, with programs in the stead of
// return values and with neither, and every cgroup hierarchy.
func Guests() []Guest {
	return []Guest{
		{Series: "6.1", Cgroup: CgroupV2, LSM: true},
		{Series: "6.1", Cgroup: CgroupV1, LSM: true},
		{Series: "6.1", Cgroup: CgroupV2, LSM: false},
		{Series: "6.1", Cgroup: CgroupV2, Return: true},
		{Series: "6.12", Cgroup: CgroupV2, LSM: true},
		{Series: "6.12", Cgroup: CgroupHybrid, LSM: true},
		{Series: "6.12", Cgroup: CgroupV2, LSM: false},
		{Series: "6.12", Cgroup: CgroupV2, Return: true},
	}
}

// Suite is the tests of one package that a guest runs.
type Suite struct {
	Package string // as `go test` takes it
	Run     string // -test.run
}

// The environment variables that a test in a guest can ask: which guest it
// runs in. Outside of a guest they are not set.
const (
	EnvGuest  = "BREAKWATER_GUEST"        // Guest.String()
	EnvCgroup = "BREAKWATER_GUEST_CGROUP" // v1, v2, hybrid
	EnvLSM    = "BREAKWATER_GUEST_LSM"    // "1" when bpf is in lsm=, else "0"
)

// commandLine is what the guest's kernel is booted with. The order of lsm= is
// Debian's own; /init reads the breakwater words.
func (g Guest) commandLine() string {
	lsm := "landlock,lockdown,yama,integrity,apparmor"
	if g.LSM {
		lsm += ",bpf"
	}
	return "console=ttyS0 panic=-1 loglevel=2 no_timer_check lsm=" + lsm +
		" breakwater.guest=" + g.String() + " breakwater.cgroup=" + string(g.Cgroup) +
		" breakwater.lsm=" + map[bool]string{true: "1", false: "0"}[g.LSM] +
		" breakwater.return=" + map[bool]string{true: "1", false: "0"}[g.Return]
}
