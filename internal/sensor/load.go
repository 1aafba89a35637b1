package sensor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// DefaultPin is the folder of a BPF file system below which everything is pinned.
const DefaultPin = "/sys/fs/bpf/breakwater"

// ErrUnsupported says that this host cannot carry the sensor at all; the error
// that wraps it names what is missing and the way out.
var ErrUnsupported = errors.New("the kernel sensor cannot run here")

// ErrBusy says that another agent holds the pin folder.
var ErrBusy = errors.New("another agent holds the kernel sensor")

// Options say how to load. The zero value is the default of every field.
type Options struct {
	// Pin is a folder on a BPF file system; default DefaultPin. One that is on
	// none gets a BPF file system mounted on it.
	Pin string
	// Hierarchy names the cgroup hierarchy that tells containers apart;
	// default: DetectHierarchy.
	Hierarchy *Hierarchy
	// HostMountNS is the inode number of the host's mount namespace, that of
	// its first process; default: /proc/1/ns/mnt.
	HostMountNS uint64
	// Under is a cgroup folder of that hierarchy: only containers below it are
	// seen. Default: everywhere. Tests keep to themselves by it.
	Under string
	// Tier1 loads the LSM programs too. Probe their effect first: they attach
	// without an error where they never fire.
	Tier1 bool
	// ByReturn attaches them to the kernel's functions that ask LSM, in the stead
	// of the functions' return values, for kernels without bpf in their lsm= list.
	ByReturn bool
	// Syscalls watches every system call even where the kernel's tracepoints
	// tell enough without. Tests try that way by it on newer kernels.
	Syscalls bool
}

// Objects is what is loaded: the maps, and the links that keep the programs
// where they act. Safe for concurrent use, as maps are.
type Objects struct {
	Settings, Slots, Containers, Assigned, Procs *ebpf.Map
	Paths, Networks, EngineSockets, InitPrograms *ebpf.Map
	Leaves, Familiar, Strangers                  *ebpf.Map
	Counters, Seen, Flows, Events, Decisions     *ebpf.Map

	Hierarchy Hierarchy
	Under     string // as in Options
	Tier1     bool
	// Quiet: no program watches system calls. Openings of files are asked about
	// by a Sensor, while it runs.
	Quiet bool
	// Fresh: the maps are new, nothing of an earlier agent is in them.
	Fresh bool
	// Unpinned names programs that this kernel cannot pin: they act only
	// while this process lives.
	Unpinned []string

	watched watched
	// settings: who changes one of the programs' settings writes all of them.
	settings sync.Mutex
	// Openings that were asked about, and those of them that nobody was told of.
	asked, untold atomic.Uint64

	pin    string
	maps   string
	links  string
	lock   *os.File
	closer []interface{ Close() error }
}

// Load brings the programs into the kernel, or takes up those that an earlier
// agent left pinned there. Programs of another version are replaced: the new
// ones act before the old ones are removed (Settle). Close the result.
func Load(ctx context.Context, opts Options) (*Objects, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	if opts.Pin == "" {
		opts.Pin = DefaultPin
	}
	if err := mountBPF(opts.Pin); err != nil {
		return nil, err
	}
	// Before Linux 5.11 maps count as locked memory. What is refused here shows
	// when the maps are made.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	o := &Objects{pin: opts.Pin, Under: opts.Under, Tier1: opts.Tier1}
	if err := o.acquire(); err != nil {
		return nil, err
	}
	if err := o.load(ctx, opts); err != nil {
		_ = o.Close()
		return nil, fmt.Errorf("load the kernel sensor below %s: %w", opts.Pin, err)
	}
	return o, nil
}

func supported() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: loading programs needs root (uid is %d); run the agent as root", ErrUnsupported, os.Geteuid())
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("%w: the kernel carries no type information (/sys/kernel/btf/vmlinux); use a kernel with CONFIG_DEBUG_INFO_BTF", ErrUnsupported)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	if err != nil {
		if errors.Is(err, unix.EPERM) { // the library's text advises its callers
			err = unix.EPERM
		}
		return fmt.Errorf("%w: the kernel refuses BPF ring buffers (Linux 5.8 and CAP_BPF or CAP_SYS_ADMIN are needed): %w", ErrUnsupported, err)
	}
	return m.Close()
}

// mountBPF makes sure that the pin folder is on a BPF file system.
func mountBPF(pin string) error {
	target := pin
	if strings.HasPrefix(pin, "/sys/fs/bpf/") {
		target = "/sys/fs/bpf"
	}
	if !onBPF(target) {
		if err := os.MkdirAll(target, 0o700); err != nil {
			return fmt.Errorf("pin folder %s: %w", pin, err)
		}
		if err := unix.Mount("bpf", target, "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mount a BPF file system on %s: %w", target, err)
		}
	}
	if err := os.MkdirAll(pin, 0o700); err != nil {
		return fmt.Errorf("pin folder %s: %w", pin, err)
	}
	return nil
}

func onBPF(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && uint32(fs.Type) == unix.BPF_FS_MAGIC
}

// acquire locks the pin folder; the kernel releases it when the process dies.
func (o *Objects) acquire() error {
	f, err := os.Open(o.pin)
	if err != nil {
		return fmt.Errorf("pin folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		who := holder(f)
		_ = f.Close()
		return fmt.Errorf("%w (pin folder %s is locked%s): stop it, or give this one a pin folder of its own", ErrBusy, o.pin, who)
	}
	o.lock = f
	return nil
}

func (o *Objects) load(ctx context.Context, opts Options) error {
	var err error
	if opts.Hierarchy != nil {
		o.Hierarchy = *opts.Hierarchy
	} else if o.Hierarchy, err = hierarchyOf(opts.Under); err != nil {
		return err
	}
	if !o.Hierarchy.holds(opts.Under) {
		return fmt.Errorf("the cgroup folder %s is not in the hierarchy that names containers, which is mounted at %s: name one below that", opts.Under, o.Hierarchy.Root)
	}
	types := btf.NewCache()
	host := bpf.Host{Direct: knows[*btf.Func](types, bpf.Cast), Tier1: opts.Tier1, Traces: !opts.Syscalls}
	host.Paths = knows[*btf.Func](types, "security_path_unlink")
	host.Registers = features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnTaskPtRegs) == nil
	for _, name := range bpf.Tracepoints() {
		host.Traces = host.Traces && knows[*btf.Typedef](types, name)
	}
	o.Quiet = host.Quiet()
	objects := host.Objects()
	specs, layout, err := readObjects(objects)
	if err != nil {
		return err
	}
	o.maps = filepath.Join(o.pin, "maps-"+layout)
	version := bpf.Version(objects)
	if opts.Tier1 && opts.ByReturn {
		version += "-r"
		if err := byReturn(specs); err != nil {
			return err
		}
	}
	o.links = filepath.Join(o.pin, "links-"+version)
	for _, dir := range []string{o.maps, o.links} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := o.openMaps(specs); err != nil {
		return err
	}
	if err := o.configure(opts.HostMountNS, opts.Under); err != nil {
		return err
	}
	if err := o.attach(ctx, specs, types); err != nil || o.Fresh {
		return err
	}
	return o.Settle() // the same maps: nothing is left for the old programs to do
}

// knows asks the running kernel's BTF for a name.
func knows[T btf.Type](types *btf.Cache, name string) bool {
	kernel, err := types.Kernel()
	if err != nil {
		return false
	}
	var found T
	return kernel.TypeByName(name, &found) == nil
}

// readObjects parses the objects. layout changes with the maps they share.
func readObjects(objects []bpf.Object) (specs []*ebpf.CollectionSpec, layout string, err error) {
	shared := sha256.New()
	for _, obj := range objects {
		spec, err := obj.Spec()
		if err != nil {
			return nil, "", err
		}
		specs = append(specs, spec)
	}
	for _, spec := range specs[:2] { // every shared map is in one of these
		for _, name := range sortedKeys(spec.Maps) {
			m := spec.Maps[name]
			if m.Pinning == ebpf.PinByName {
				fmt.Fprintln(shared, name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags, typeText(m.Key), typeText(m.Value))
			}
		}
	}
	return specs, hex.EncodeToString(shared.Sum(nil))[:8], nil
}

// typeText writes a type with its members, so that a moved field changes it.
func typeText(t btf.Type) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%9v", t)
}

func (o *Objects) openMaps(specs []*ebpf.CollectionSpec) error {
	entries, err := os.ReadDir(o.maps)
	if err != nil {
		return err
	}
	o.Fresh = len(entries) == 0
	wanted := map[string]**ebpf.Map{
		"settings": &o.Settings, "slots": &o.Slots, "containers": &o.Containers, "assigned": &o.Assigned,
		"procs": &o.Procs, "paths": &o.Paths, "networks": &o.Networks, "engine_sockets": &o.EngineSockets,
		"init_programs": &o.InitPrograms, "leaves": &o.Leaves, "familiar": &o.Familiar, "strangers": &o.Strangers,
		"counters": &o.Counters, "seen": &o.Seen, "flows": &o.Flows, "events": &o.Events, "decisions": &o.Decisions,
	}
	for _, spec := range specs {
		for name, m := range spec.Maps {
			to := wanted[name]
			if to == nil || *to != nil || m.Pinning != ebpf.PinByName {
				continue
			}
			if *to, err = ebpf.NewMapWithOptions(m, ebpf.MapOptions{PinPath: o.maps}); err != nil {
				return fmt.Errorf("map %s: %w", name, err)
			}
			o.closer = append(o.closer, *to)
		}
	}
	for name, to := range wanted {
		if *to == nil {
			return fmt.Errorf("map %s is in no object", name)
		}
	}
	return nil
}

// configure writes what the programs must know of this host.
func (o *Objects) configure(mountNS uint64, under string) error {
	if mountNS == 0 {
		var err error
		if mountNS, err = hostMountNS(); err != nil {
			return err
		}
	}
	below := uint64(0)
	if under != "" {
		var err error
		if below, err = CgroupID(under); err != nil {
			return err
		}
	}
	err := o.set(func(c *bpf.Config) {
		c.HostMntns = mountNS
		c.Subsys = int32(o.Hierarchy.Subsystem)
		c.Hierarchy = uint32(o.Hierarchy.ID)
		c.RealOffset = wallOffset()
		c.Flags &= bpf.ConfigFiles // of an earlier agent's policies, which are in force
		if o.Quiet {
			c.Flags |= bpf.ConfigLoader
		}
		c.Under = below
	})
	if err != nil || !o.Fresh {
		return err
	}
	return o.Slots.Put(uint32(0), AlwaysOn())
}

// hostMountNS asks the kernel for the mount namespace of the host's first
// process; kernels before 5.10 cannot be asked, there /proc tells.
func hostMountNS() (uint64, error) {
	var host bpf.HostObjects
	asked := bpf.LoadHostObjects(&host, nil)
	if asked == nil {
		defer func() { _ = host.Close() }() // nothing was written
		var inum uint32
		if inum, asked = host.HostMounts.Run(&ebpf.RunOptions{}); asked == nil && inum != 0 {
			return uint64(inum), nil
		}
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/1/ns/mnt", &st); err != nil {
		return 0, fmt.Errorf("the host's mount namespace: %w; run the agent with the host's pid namespace (asking the kernel: %v)", err, asked)
	}
	return st.Ino, nil
}

// AlwaysOn is the slot that enforces nothing but the always-on pack; it is in
// force from the first moment on.
func AlwaysOn() bpf.Slot {
	var s bpf.Slot
	s.Used = 1
	for _, c := range []int{bpf.ControlReverseShell, bpf.ControlReleaseAgent, bpf.ControlCorePattern, bpf.ControlEngineSocket, bpf.ControlHelper,
		bpf.ControlModule, bpf.ControlBPF, bpf.ControlHandle, bpf.ControlDevice} {
		s.Mode[c] = bpf.ModeKill
	}
	s.Mode[bpf.ControlMiner] = bpf.ModeDetect
	s.Mode[bpf.ControlForkBomb] = bpf.ModeDetect // who forks is not who is to be stopped
	return s
}

// set changes the programs' settings, of which one write replaces all.
func (o *Objects) set(change func(*bpf.Config)) error {
	o.settings.Lock()
	defer o.settings.Unlock()
	var c bpf.Config
	if err := o.Settings.Lookup(uint32(0), &c); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	change(&c)
	if err := o.Settings.Put(uint32(0), c); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// SyncClock tells the programs where the wall clock stands. Call it now and
// then: the kernel's other clocks do not follow every correction.
func (o *Objects) SyncClock() error {
	return o.set(func(c *bpf.Config) { c.RealOffset = wallOffset() })
}

// SetFileRules tells the programs that some policy has rules about files: without
// any they look no further into openings.
func (o *Objects) SetFileRules() error {
	return o.set(func(c *bpf.Config) { c.Flags |= bpf.ConfigFiles })
}

// SetDefaultSlot names the slot of containers that nothing was assigned to.
func (o *Objects) SetDefaultSlot(slot uint32) error {
	return o.set(func(c *bpf.Config) { c.DefaultSlot = slot })
}

// Settle removes what another version of the programs left pinned, once the
// maps of this one are filled. Until then both act.
func (o *Objects) Settle() error {
	entries, err := os.ReadDir(o.pin)
	if err != nil {
		return fmt.Errorf("pin folder: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(o.pin, e.Name())
		if ours(e.Name()) && path != o.maps && path != o.links {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// ours tells the folders of this package from what else the kernel puts into
// a BPF file system.
func ours(name string) bool {
	return strings.HasPrefix(name, "links-") || strings.HasPrefix(name, "maps-")
}

// Close lets go of the objects; what is pinned goes on acting.
func (o *Objects) Close() error {
	var errs []error
	for _, c := range o.closer {
		errs = append(errs, c.Close())
	}
	o.closer = nil
	if o.lock != nil {
		errs = append(errs, o.lock.Close())
		o.lock = nil
	}
	return errors.Join(errs...)
}

// Unload removes everything from the kernel and closes the objects: nothing is
// enforced any more.
func (o *Objects) Unload() error { return errors.Join(o.Close(), Remove(o.pin)) }

// Remove unpins everything below a pin folder, also what a dead agent or test
// left there. A BPF file system that was mounted on the folder itself goes too.
// While an agent holds the folder it is ErrBusy.
func Remove(pin string) error {
	if pin == "" {
		pin = DefaultPin
	}
	if !onBPF(pin) {
		return nil
	}
	o := &Objects{pin: pin}
	if err := o.acquire(); err != nil {
		return err
	}
	defer o.Close()
	entries, err := os.ReadDir(pin)
	if err != nil {
		return fmt.Errorf("pin folder: %w", err)
	}
	var errs []error
	for _, prefix := range []string{"links-", "maps-"} { // links first: then no program acts on a half
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) {
				errs = append(errs, os.RemoveAll(filepath.Join(pin, e.Name())))
			}
		}
	}
	if err := os.Remove(pin); errors.Is(err, unix.EBUSY) { // a mount point
		errs = append(errs, unix.Unmount(pin, unix.MNT_DETACH), os.Remove(pin))
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// verifierTail keeps the end of a verifier's complaint, where the reason is.
func verifierTail(err error) error {
	var ve *ebpf.VerifierError
	if !errors.As(err, &ve) {
		return err
	}
	var b bytes.Buffer
	from := max(0, len(ve.Log)-4)
	for _, line := range ve.Log[from:] {
		fmt.Fprintf(&b, "\n\t%s", line)
	}
	return fmt.Errorf("%w%s", err, b.String())
}
