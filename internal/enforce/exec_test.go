package enforce_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"golang.org/x/sys/unix"
)

func only(patterns ...string) policy.Run {
	run := policy.Run{Policies: []string{"p"}, Exec: policy.Exec{Effect: event.EffectBlock, Restrict: true}}
	for _, p := range patterns {
		run.Exec.Allow = append(run.Exec.Allow, policy.PathRule{Pattern: p, Policy: "p", Source: "p.yaml:1"})
	}
	return run
}

func not(patterns ...string) policy.Run {
	run := policy.Run{Exec: policy.Exec{Effect: event.EffectBlock}}
	for _, p := range patterns {
		run.Exec.Deny = append(run.Exec.Deny, policy.PathRule{Pattern: p, Policy: "q", Source: "q.yaml:2"})
	}
	return run
}

// tree makes dir/a/tiny and dir/a/b/tiny.
func programTree(t *testing.T) (dir, shallow, deep string) {
	t.Helper()
	dir = t.TempDir()
	shallow, deep = filepath.Join(dir, "a", "tiny"), filepath.Join(dir, "a", "b", "tiny")
	if err := os.MkdirAll(filepath.Dir(deep), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{shallow, deep} {
		if err := os.WriteFile(p, tinyProgram(t), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, deep)
	return dir, shallow, deep
}

func TestKernelPaths(t *testing.T) {
	g := newGuard(t)
	dir, shallow, deep := programTree(t)
	merged := only(dir + "/**")
	merged.Exec.Deny = not(deep).Exec.Deny
	for _, test := range []struct {
		name          string
		run           policy.Run
		shallow, deep bool
	}{
		{"no rules", policy.Run{}, true, true},
		{"exact", only(shallow), true, false},
		{"one level", only(dir + "/a/*"), true, false},
		{"tree", only(dir + "/a/**"), true, true},
		{"everything", only("/**"), true, true},
		{"nothing", only(), false, false},
		{"a folder's name as a prefix only", only(dir + "/a/b/tin"), false, false},
		{"deny exact", not(deep), true, false},
		{"deny one level", not(dir + "/a/*"), false, true},
		{"deny tree", not(dir + "/a/**"), false, false},
		{"deny beats allow", merged, true, false},
		{"audit", func() policy.Run { r := only(); r.Audit = true; return r }(), true, true},
		{"alert", func() policy.Run { r := only(); r.Exec.Effect = event.EffectAlert; return r }(), true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := g.box(assign(t, g, test.run))
			for path, allowed := range map[string]bool{shallow: test.shallow, deep: test.deep} {
				r := b.run(path)
				if ran := r.out == "x"; ran != allowed || !allowed && !r.refused() {
					t.Errorf("%s: %+v, want allowed=%v", path, r, allowed)
				}
			}
		})
	}
}

// A path that is too long for the kernel's key matches no rule: neither may it
// pass as allowed, nor slip through under a denied one.
func TestKernelLongPath(t *testing.T) {
	g := newGuard(t)
	dir := t.TempDir()
	for len(dir) < 300 {
		dir = filepath.Join(dir, "0123456789012345678901234567890123456789")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "tiny")
	if err := os.WriteFile(long, tinyProgram(t), 0o755); err != nil {
		t.Fatal(err)
	}
	settle(t, long)
	if r := g.box().run(long); r.out != "x" {
		t.Errorf("without rules: %+v", r)
	}
	for _, run := range []policy.Run{only("/**"), not("/nowhere/*")} {
		if r := g.box(assign(t, g, run)).run(long); !r.refused() {
			t.Errorf("with rules: %+v", r)
		}
	}
}

func TestKernelFileless(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	run := policy.Run{Fileless: policy.Switch{On: true, Effect: event.EffectKill}}
	if r := g.box(assign(t, g, run)).act("memfd %s", tiny); !r.refused() {
		t.Errorf("fileless: %+v", r)
	}
	e := g.wait("fileless", func(e event.Event) bool {
		return e.Decision != nil && e.Decision.Control == event.ControlFileless
	})
	if !e.Exec.Fileless || e.Process.ParentID == "" {
		t.Errorf("event: %+v %+v", e.Exec, e.Process)
	}
	run.Fileless.On = false
	if r := g.box(assign(t, g, run)).act("memfd %s", tiny); r.out != "x" {
		t.Errorf("switched off: %+v", r)
	}
}

// An overlay's upper layer is what the container wrote, whenever that was.
func TestKernelUpper(t *testing.T) {
	g := newGuard(t)
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"lower/image", "upper/written"} {
		if err := os.WriteFile(filepath.Join(dir, d), tinyProgram(t), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, filepath.Join(dir, "upper/written"))
	merged := filepath.Join(dir, "merged")
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("left out: no overlay here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	b := g.box(assign(t, g, drift(event.EffectBlock)))
	if r := b.run(merged + "/image"); r.out != "x" {
		t.Errorf("from the image: %+v\n%s", r, g.told())
	}
	if r := b.run(merged + "/written"); !r.refused() {
		t.Errorf("from the upper layer: %+v\n%s", r, g.told())
	}
	e := g.wait("drift", decided(b.id, event.ControlDrift, denial(g)))
	if !e.Exec.Upper || e.Exec.Modified {
		t.Errorf("event: %+v", e.Exec)
	}
}

func denial(g *guard) event.Outcome {
	if g.opts.Tier1 {
		return event.Prevented
	}
	return event.Killed
}

// What a dropped script shows of itself: on Tier 1 the script is judged, on
// Tier 2 its interpreter. A script as an interpreter's argument is data on
// both. These are limits, and here they are.
func TestKernelScripts(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	b := g.box(assign(t, g, drift(event.EffectBlock)))
	script := filepath.Join(t.TempDir(), "script")
	r := b.act("script %s %s", script, tiny)
	if g.opts.Tier1 {
		if !r.refused() {
			t.Errorf("tier 1: %+v", r)
		}
		return
	}
	if r.out != "x" {
		t.Errorf("tier 2: %+v", r)
	}
	e := g.wait("script", func(e event.Event) bool { return e.Exec != nil && e.Exec.Script != "" })
	if e.Exec.Script != script || e.Exec.Path != tiny || e.Decision != nil {
		t.Errorf("event: %+v %+v", e.Exec, e.Decision)
	}
}

// 200 dropped programs, none reaches its first write.
func TestKernelDriftNeverWrites(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	b := g.box(assign(t, g, drift(event.EffectBlock)))
	dropped := filepath.Join(t.TempDir(), "dropped")
	if r := b.act("copyrun %s %s", tiny, dropped); !r.refused() {
		t.Fatalf("first: %+v", r)
	}
	for i := range 200 {
		if r := b.run(dropped); !r.refused() {
			t.Fatalf("run %d: %+v", i, r)
		}
	}
}

// Everybody outside a container passes before anything else is looked at.
func TestKernelNoContainerPasses(t *testing.T) {
	g := newGuard(t)
	if err := g.SetDefault(strict()); err != nil {
		t.Fatal(err)
	}
	tiny := program(t)
	for _, name := range []string{"system.slice", randomID()[:63], "x" + randomID(), "libpod-conmon-" + randomID() + ".scope", "docker-" + randomID() + ".mount"} {
		dir := filepath.Join(g.parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeGroup(t, dir) })
		b := &box{g: g, dir: dir}
		if r := b.run(tiny); r.out != "x" {
			t.Errorf("%s: exec: %+v", name, r)
		}
		if r := b.act("memfd %s", tiny); r.out != "x" {
			t.Errorf("%s: memfd: %+v", name, r)
		}
		for _, act := range []string{"connect tcp4 198.51.100.1:80", "connect tcp6 [2001:db8::1]:80", "send udp4 198.51.100.1:53"} {
			if r := b.act("%s", act); unreachable(r.code) != int(syscall.ENETUNREACH) {
				t.Errorf("%s: %s: %+v", name, act, r)
			}
		}
	}
	if list, err := g.Containers(); err != nil || len(list) != 0 {
		t.Errorf("containers: %v %v", list, err)
	}
}

// strict refuses everything that can be refused.
func strict() policy.Run {
	run := only()
	run.Drift = policy.Switch{On: true, Effect: event.EffectBlock}
	run.Fileless = run.Drift
	run.Network = policy.Network{Effect: event.EffectBlock, Restrict: true}
	return run
}

func TestKernelContainerNames(t *testing.T) {
	g := newGuard(t)
	if err := g.SetDefault(strict()); err != nil {
		t.Fatal(err)
	}
	tiny := program(t)
	for _, n := range [][2]string{{"", ""}, {"docker-", ".scope"}, {"libpod-", ".scope"}, {"libpod-", ""}, {"cri-containerd-", ".scope"}, {"crio-", ".scope"}} {
		b := g.boxNamed(randomID(), n[0], n[1])
		if r := b.run(tiny); !r.refused() {
			t.Errorf("%s…%s: %+v", n[0], n[1], r)
		}
		g.wait("appeared", func(e event.Event) bool { return e.Kind == event.KindContainer && e.Container.ID == b.id })
	}
}

// The runtime sets a container up from inside its cgroup, in the host's mount
// namespace, from memory: that is exempt, until the container's own root is
// entered; and nobody gets back to it.
func TestKernelSetUpIsExempt(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	b := g.box(assign(t, g, strict()))
	host := b.actCommand("memfd " + tiny)
	host.SysProcAttr.Cloneflags = 0
	if r := finish(host); r.out != "x" {
		t.Errorf("set-up: %+v\n%s", r, g.told())
	}
	if r := b.run(tiny); !r.refused() {
		t.Errorf("inside: %+v", r)
	}
}

func TestKernelNestedGroups(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	b := g.box(assign(t, g, strict()))
	inner := filepath.Join(b.dir, randomID())
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	nested := &box{g: g, id: b.id, dir: inner}
	if r := nested.run(tiny); !r.refused() {
		t.Errorf("nested: %+v", r)
	}
	if err := g.Assign(b.id, policy.Run{}); err != nil {
		t.Fatal(err)
	}
	if r := nested.run(tiny); r.out != "x" {
		t.Errorf("nested, switched: %+v", r)
	}
}

// A process that leaves its container's cgroup stays the container's.
func TestKernelLineage(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	self, _ := os.Executable()
	run := only(self)
	b := g.box(assign(t, g, run))
	if r := b.act("run %s", tiny); r.code != 128+9 && !g.opts.Tier1 {
		t.Errorf("inside: %+v", r)
	}
	outside := filepath.Join(g.parent, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(t, outside) })
	if r := b.act("move %s %s", outside, tiny); !r.refused() {
		t.Errorf("moved out: %+v\n%s", r, g.told())
	}
}

func TestKernelReverseShell(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 16)
			n, _ := c.Read(b)
			got <- string(b[:n])
			_ = c.Close()
		}
	}()
	b := g.box() // the always-on pack needs no policy
	r := finish(inHostNetwork(b.actCommand("shell " + tiny + " " + l.Addr().String())))
	if !r.refused() {
		t.Errorf("reverse shell: %+v", r)
	}
	if s := <-got; s != "" {
		t.Errorf("the listener got %q", s)
	}
	e := g.wait("reverse shell", decided(b.id, event.ControlDetection, denial(g)))
	if e.Decision.Rule != "reverse-shell" || !e.Exec.StdinSocket || !e.Exec.StdoutSocket {
		t.Errorf("event: %+v %+v", e.Decision, e.Exec)
	}
	waived := policy.Run{Waivers: []policy.Waiver{{Detection: "reverse-shell"}}}
	b = g.box(assign(t, g, waived))
	if r := finish(inHostNetwork(b.actCommand("shell " + tiny + " " + l.Addr().String()))); r.code != 0 {
		t.Errorf("waived: %+v", r)
	}
	if s := <-got; s != "x" {
		t.Errorf("waived: the listener got %q", s)
	}
}
