package enforce_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// seesPrivileges: where every system call is watched, no program is told of rights.
// On a kernel that has what the others hang on, nothing but the test's own wish may
// lead there.
func (g *guard) seesPrivileges() bool {
	g.t.Helper()
	sees := g.Objects().Quiet || g.opts.Tier1
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		g.t.Fatal(err)
	}
	has := true
	for _, name := range append(bpf.Tracepoints(), bpf.Cast) {
		_, err := kernel.AnyTypeByName(name)
		has = has && err == nil
	}
	if has && !sees && !g.opts.Syscalls {
		g.t.Fatal("this kernel has every tracepoint, and its system calls are watched all the same")
	}
	return sees
}

// Rights that no container has any business with: whoever uses one is stopped,
// and told of with the call.
func TestKernelPrivileges(t *testing.T) {
	g := newGuard(t)
	if !g.seesPrivileges() {
		t.Skip("left out: this kernel's programs are told of no rights")
	}
	for act, want := range map[string]struct{ detection, call, capability string }{
		"bpf":    {"escape-bpf", "bpf", "BPF"},
		"handle": {"escape-file-handle", "open_by_handle_at", "DAC_READ_SEARCH"},
		"module": {"escape-kernel-module", "finit_module", "SYS_MODULE"},
	} {
		b := g.box()
		if r := g.box(assign(t, g, policy.Run{Observe: true})).act("%s", act); r.code == int(syscall.ENOSYS) {
			t.Logf("left out: %s: not in this kernel", want.call)
			continue
		}
		if r := b.act("%s", act); !r.killed {
			t.Errorf("%s: %+v", act, r)
		}
		e := g.wait(act, decided(b.id, event.ControlDetection, denial(g)))
		if e.Decision.Rule != want.detection || e.Privilege == nil || e.Privilege.Call != want.call || e.Privilege.Capability != want.capability || e.Privilege.Granted != (denial(g) == event.Killed) {
			t.Errorf("%s: told as %+v %+v", act, e.Decision, e.Privilege)
		}
		waived := policy.Run{Waivers: []policy.Waiver{{Detection: want.detection}}}
		if r := g.box(assign(t, g, waived)).act("%s", act); r.killed {
			t.Errorf("%s, waived: %+v", act, r)
		}
	}
	b := g.box()
	if r := b.act("mount %s", t.TempDir()); r.code != 0 {
		t.Errorf("mount: %+v", r)
	}
	g.wait("mount", func(e event.Event) bool {
		return e.Container != nil && e.Container.ID == b.id && e.Privilege != nil && e.Privilege.Call == "mount" && e.Privilege.Capability == "SYS_ADMIN" && e.Decision == nil
	})
}

// The host's disks are refused, and nothing else. A node for one harms nobody.
func TestKernelBlockDevice(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	node := filepath.Join(t.TempDir(), "disk")
	if r := b.act("mkblock %s", node); r.code != 0 {
		t.Errorf("a node: %+v", r)
	}
	if r := b.act("read %s", node); r.code != int(syscall.EPERM) {
		t.Errorf("the device: %+v", r)
	}
	e := g.wait("device", decided(b.id, event.ControlDetection, event.Prevented))
	if e.Decision.Rule != "escape-block-device" || e.Privilege.Device != "7:0" || e.Privilege.Call != "read" {
		t.Errorf("told as %+v %+v", e.Decision, e.Privilege)
	}
	if r := b.act("openwrite /dev/null"); r.code != 0 {
		t.Errorf("/dev/null: %+v", r)
	}
	waived := policy.Run{Waivers: []policy.Waiver{{Detection: "escape-block-device"}}}
	if r := g.box(assign(t, g, waived)).act("read %s", node); r.code == int(syscall.EPERM) {
		t.Errorf("waived: %+v", r)
	}
}

// An engine inside of a container makes a list of devices for its own containers:
// a program for the kernel that can only refuse.
func TestKernelNestedEngine(t *testing.T) {
	g := newGuard(t)
	if r := g.box().act("devices"); r.code != 0 {
		t.Errorf("a list of devices: %+v\n%s", r, g.told())
	}
}

func TestKernelListen(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	if r := finish(inHostNetwork(b.actCommand("listen 127.0.0.1:0"))); r.code != 0 {
		t.Fatalf("listen: %+v", r)
	}
	e := g.wait("listen", func(e event.Event) bool { return e.Kind == event.KindListen && e.Container.ID == b.id })
	if e.Network.Port == 0 || e.Network.Transport != "tcp" || e.Process.Path == "" {
		t.Errorf("event: %+v %+v", e.Network, e.Process)
	}
}

// An overlay file system acts with the rights of who mounted it: whoever uses it has
// asked for none.
func TestKernelRightsOfFileSystemsAreNotTheProcesses(t *testing.T) {
	g := newGuard(t)
	if !g.seesPrivileges() {
		t.Skip("left out: this kernel's programs are told of no rights")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil { // an overlay lies on no other one
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	merged := filepath.Join(dir, "merged")
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lower", "file"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "lower"), filepath.Join(dir, "lower", "file")} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		if errors.Is(err, unix.ENODEV) {
			t.Log("left out: this kernel has no overlay file systems")
			return
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	b := g.box()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/self", self, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := func(act string) result {
		c := b.actCommand(act)
		c.Path = dir + "/self" // where everybody reaches it
		c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		return finish(c)
	}
	if r := nobody("rewrite " + merged + "/file"); r.code != 0 {
		t.Fatalf("writing: %+v", r)
	}
	// It asks for this itself, and is told of after the rest.
	nobody("mount " + t.TempDir())
	g.wait("mount", func(e event.Event) bool { return e.Privilege != nil && e.Privilege.Call == "mount" })
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Privilege != nil && e.Privilege.Granted {
			t.Errorf("a process without rights was told to have used %s by %s", e.Privilege.Capability, e.Privilege.Call)
		}
	}
}

// Each name is told once for a process, whatever the message's number.
func TestKernelQuestions(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	if r := finish(inHostNetwork(b.actCommand("ask 127.0.0.1:53 Long.Example.test."))); r.code != 0 {
		t.Fatalf("ask: %+v", r)
	}
	e := g.wait("question", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Container.ID == b.id })
	if e.DNS.Name != "long.example.test" || e.DNS.Type != "TXT" || e.DNS.Server != "127.0.0.1" || e.Process.PID == 0 {
		t.Errorf("event: %+v %+v", e.DNS, e.Process)
	}
}

func TestKernelExecRights(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	b.act("nothing")
	e := g.wait("exec", func(e event.Event) bool { return e.Kind == event.KindExec && e.Container.ID == b.id })
	if e.Exec.EUID != 0 || e.Exec.Gained || e.Exec.Terminal || !slices.Contains(e.Exec.Capabilities, "NET_RAW") {
		t.Errorf("event: %+v", e.Exec)
	}
	plain, tool := program(t), filepath.Join(t.TempDir(), "tool")
	data, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tool, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(tool), filepath.Dir(filepath.Dir(tool))} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tool, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	c := b.command(tool)
	c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	if r := finish(c); r.out == "" {
		t.Fatalf("a set-user-ID program: %+v", r)
	}
	e = g.wait("set-user-ID", func(e event.Event) bool { return e.Exec != nil && e.Exec.Path == tool })
	if e.Exec.EUID != 0 || !e.Exec.Gained || e.Process.UID != 65534 {
		t.Errorf("event: %+v %+v", e.Exec, e.Process)
	}
}
