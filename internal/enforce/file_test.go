package enforce_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
	"golang.org/x/sys/unix"
)

func TestKernelWatch(t *testing.T) {
	g := newGuard(t)
	dir := t.TempDir()
	for _, name := range []string{"exact", "other", "d/x", "d/e/y"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Watch("/nowhere"); err != nil {
		t.Fatal(err)
	}
	// A file that the kernel asks nobody about hides none of the others.
	if err := g.Watch("/proc/version", dir+"/exact", dir+"/d/*", dir+"/absent"); err != nil {
		t.Fatal(err)
	}
	b := g.box()
	if g.Objects().Quiet {
		// What is asked about is found when the container runs its first program,
		// beside that program.
		for !strings.Contains(g.told(), "Write:false") {
			b.act("read %s/exact", dir)
		}
	}
	b.act("openwrite %s/other", dir)
	b.act("openwrite %s/d/e/y", dir)
	b.act("read %s/d/x", dir)
	b.act("openwrite %s/exact", dir)
	e := g.wait("write", func(e event.Event) bool { return e.Kind == event.KindFileOpen && e.File.Write })
	if e.File.Path != dir+"/exact" || e.Decision != nil || e.Process.Path == "" {
		t.Errorf("event: %+v %+v", e.File, e.Process)
	}
	g.wait("read", func(e event.Event) bool { return e.File != nil && e.File.Path == dir+"/d/x" && !e.File.Write })
	if g.Objects().Quiet {
		// What is put into place without being opened there is told like what was
		// written there: under a name that nobody had, over another file, as a link.
		for !strings.Contains(g.told(), dir+"/absent") {
			b.act("link %s/other %s/absent", dir, dir)
			_ = os.Remove(dir + "/absent") // it is tried until it is told
		}
		if e := g.wait("absent", func(e event.Event) bool { return e.File != nil && e.File.Path == dir+"/absent" }); !e.File.Write || e.Process.Path == "" {
			t.Errorf("event: %+v %+v", e.File, e.Process)
		}
		for name, act := range map[string]string{"moved": "rename %s/spare %s/d/moved", "linked": "link %s/exact %s/d/linked"} {
			if err := os.WriteFile(dir+"/spare", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			b.act(act, dir, dir)
			g.wait(name, func(e event.Event) bool { return e.File != nil && e.File.Path == dir+"/d/"+name && e.File.Write })
		}
	}
	if strings.Contains(g.told(), dir+"/other") || strings.Contains(g.told(), "/e/y") {
		t.Errorf("unwatched files were told:\n%s", g.told())
	}
	if err := g.Watch("relative"); err == nil {
		t.Error("a relative path was accepted")
	}
}

// v1Root is the root of some v1 hierarchy: only those have a release_agent. A
// host without one gets one without controllers, as an attacker would mount it.
func v1Root(t *testing.T) string {
	t.Helper()
	if h, err := sensor.V1Hierarchy("hybrid", nil); err == nil {
		return h.Root
	}
	dir := t.TempDir()
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "none,name=breakwater"); err != nil {
		testenv.Missing(t, "needs a kernel with v1 cgroups: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestKernelReleaseAgent(t *testing.T) {
	root := v1Root(t)
	g := newGuard(t)
	agent := filepath.Join(root, "release_agent")
	b := g.box()
	outcome, code := denial(g), 128+9
	if g.Objects().Quiet { // refused
		outcome, code = event.Prevented, int(syscall.EPERM)
	}
	if r := b.act("read %s", agent); r.code != 0 {
		t.Errorf("read: %+v", r)
	}
	if r := b.act("openwrite %s", agent); r.code != code {
		t.Errorf("write: %+v", r)
	}
	e := g.wait("release_agent", decided(b.id, event.ControlDetection, outcome))
	if e.File.Filesystem != "cgroup" || e.Decision.Rule != "escape-release-agent" || e.Decision.Mechanism != opening(g) {
		t.Errorf("event: %+v %+v", e.File, e.Decision)
	}
	waived := policy.Run{Waivers: []policy.Waiver{{Detection: "escape-release-agent"}}}
	if r := g.box(assign(t, g, waived)).act("openwrite %s", agent); r.code != 0 {
		t.Errorf("waived: %+v", r)
	}
}

func TestKernelCorePattern(t *testing.T) {
	const path = "/proc/sys/kernel/core_pattern"
	g := newGuard(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := g.box()
	outcome, code := denial(g), 128+9
	if g.Objects().Quiet { // opened, and refused when it writes
		outcome, code = event.Prevented, int(syscall.EPERM)
	}
	if r := b.act("rewrite %s", path); r.code != code {
		t.Errorf("opened for writing: %+v", r)
	}
	g.wait("core_pattern", decided(b.id, event.ControlDetection, outcome))
	// A descriptor that came from elsewhere cannot be written to either.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := b.actCommand("write3 " + strings.TrimSpace(string(before)))
	c.ExtraFiles = []*os.File{f}
	if r := finish(c); r.code != int(syscall.EPERM) {
		t.Errorf("written: %+v", r)
	}
	e := g.wait("core_pattern", decided(b.id, event.ControlDetection, event.Prevented))
	if e.File.Path != path || !e.File.Write || e.File.Filesystem != "proc" || e.Decision.Rule != "escape-core-pattern" {
		t.Errorf("event: %+v %+v", e.File, e.Decision)
	}
	if r := b.act("rewrite /proc/sys/kernel/domainname"); r.code != 0 {
		t.Errorf("another sysctl: %+v", r)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("core_pattern is %q now", after)
	}
}

func TestKernelEngineSocket(t *testing.T) {
	g := newGuard(t)
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/engine.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Listen("unix", dir+"/other.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got := make(chan int, 4)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := c.Read(make([]byte, 64))
			got <- n
		}
	}()
	if err := os.Symlink(dir+"/engine.sock", dir+"/alias"); err != nil {
		t.Fatal(err)
	}
	if err := g.SetEngineSockets([]string{dir + "/absent", dir + "/engine.sock"}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("absent socket: %v", err)
	}
	b := g.box()
	for _, name := range []string{"engine.sock", "alias"} {
		if r := b.act("unix %s/%s", dir, name); r.code != 128+9 {
			t.Errorf("%s: %+v", name, r)
		}
		if g.opts.Tier1 {
			continue // it never got a connection
		}
		if n := <-got; n != 0 {
			t.Errorf("%s: the engine got %d bytes", name, n)
		}
	}
	if r := b.act("unix %s/other.sock", dir); r.code != 0 {
		t.Errorf("another socket: %+v", r)
	}
	e := g.wait("engine socket", decided(b.id, event.ControlDetection, denial(g)))
	if e.Decision.Rule != "container-socket" || e.Network.Family != "unix" || e.Network.Path != dir+"/engine.sock" {
		t.Errorf("event: %+v %+v", e.Decision, e.Network)
	}
}

// opening is the mechanism that stops what is opened or connected to.
func opening(g *guard) string {
	if g.opts.Tier1 {
		return "lsm"
	}
	if g.Objects().Quiet {
		return "fanotify"
	}
	return "syscall-kill"
}

// fileRules is a run section with rules about files.
func fileRules(effect event.Effect, deny, readOnly string) policy.Run {
	f := policy.Files{Effect: effect}
	if deny != "" {
		f.Deny = []policy.PathRule{{Pattern: deny, Policy: "p", Source: "p.yaml:4"}}
	}
	if readOnly != "" {
		f.ReadOnly = []policy.PathRule{{Pattern: readOnly, Policy: "p", Source: "p.yaml:5"}}
	}
	return policy.Run{Policies: []string{"p"}, Generation: 7, Files: f}
}

// guardedFiles are folders for rules, and a box in which these are in force.
func guardedFiles(t *testing.T, effect event.Effect) (g *guard, b *box, dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"secret/key", "secret/deep/er/key", "config/file", "config/sub/file", "free/file"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g = newGuard(t)
	b = g.box(assign(t, g, fileRules(effect, dir+"/secret/**", dir+"/config/**"))).lived()
	if !g.Objects().Tier1 { // the files are found beside the first program
		deadline := time.Now().Add(20 * time.Second)
		for _, act := range []string{"read %s/secret/deep/er/key", "openwrite %s/config/sub/file"} {
			for b.act(act, dir).code == 0 {
				if time.Now().After(deadline) {
					t.Fatalf("the rules do not come into force:\n%s", g.told())
				}
			}
		}
		g.forget()
	}
	return g, b, dir
}

// stopped says whether an act ended as one does that policy wants blocked.
func stopped(r result) bool {
	return r.code == int(syscall.EPERM)
}

func TestKernelFileRules(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectBlock)
	for _, act := range []string{"read %s/secret/key", "openwrite %s/secret/key", "read %s/secret/deep/er/key", "openwrite %s/config/file", "openwrite %s/config/sub/file", "emptied %s/config/sub/file"} {
		if r := b.act(act, dir); !stopped(r) {
			t.Errorf("%s: %+v\n%s", act, r, g.told())
		}
	}
	for _, act := range []string{"read %s/config/file", "read %s/config/sub/file", "read %s/free/file", "openwrite %s/free/file"} {
		if r := b.act(act, dir); r.code != 0 {
			t.Errorf("%s: %+v\n%s", act, r, g.told())
		}
	}
	e := g.wait("the refused reading", func(e event.Event) bool {
		return e.File != nil && e.File.Path == dir+"/secret/key" && !e.File.Write && e.Decision != nil
	})
	if d := e.Decision; d.Control != event.ControlFileRead || d.Policy != "p" || d.Rule != "run.files "+dir+"/secret/** (p.yaml:4)" || d.Effect != event.EffectBlock || d.Audit {
		t.Errorf("decision: %+v", d)
	}
	e = g.wait("the refused writing", func(e event.Event) bool {
		return e.File != nil && e.File.Path == dir+"/config/sub/file" && e.Decision != nil
	})
	if d := e.Decision; d.Control != event.ControlFileWrite || d.Rule != "run.files "+dir+"/config/** (p.yaml:5)" || !strings.Contains(d.Why, "opened for writing") {
		t.Errorf("decision: %+v", d)
	}
	if raw, err := os.ReadFile(dir + "/config/sub/file"); err != nil || string(raw) != "content" {
		t.Errorf("what is read only holds %q (%v)", raw, err)
	}
}

// The host, and containers under other policies, go on.
func TestKernelFileRulesAreTheContainersOwn(t *testing.T) {
	needKernel(t)
	g, _, dir := guardedFiles(t, event.EffectBlock)
	other := g.box().lived()
	for _, act := range []string{"read %s/secret/key", "openwrite %s/config/file"} {
		if r := other.act(act, dir); r.code != 0 {
			t.Errorf("another container, %s: %+v\n%s", act, r, g.told())
		}
	}
	if err := os.WriteFile(dir+"/secret/key", nil, 0o644); err != nil {
		t.Errorf("the host: %v", err)
	}
}

func TestKernelFileRulesThatKillOrRecord(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectKill)
	if r := b.act("read %s/secret/key", dir); !r.killed {
		t.Errorf("kill: %+v\n%s", r, g.told())
	}
	assign(t, g, fileRules(event.EffectAlert, dir+"/secret/**", ""))(b.id)
	g.sensor.Reconsider(b.id)
	if r := b.act("read %s/secret/key", dir); r.code != 0 {
		t.Errorf("alert: %+v\n%s", r, g.told())
	}
	g.wait("the record", func(e event.Event) bool {
		return e.File != nil && e.File.Path == dir+"/secret/key" && e.Decision != nil && e.Decision.Outcome == event.Detected
	})
}

func TestKernelFileRulesOfAuditBesideEnforcement(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectBlock)
	run := fileRules(event.EffectBlock, dir+"/secret/**", "")
	audited := fileRules(event.EffectBlock, dir+"/config/file", "")
	audited.Files.Audit = true
	run.Audited = &audited
	assign(t, g, run)(b.id)
	g.sensor.Reconsider(b.id)
	if r := b.act("read %s/config/file", dir); r.code != 0 {
		t.Errorf("what is only audited: %+v\n%s", r, g.told())
	}
	e := g.wait("the audited reading", func(e event.Event) bool {
		return e.File != nil && e.File.Path == dir+"/config/file" && e.Decision != nil && e.Decision.Outcome == event.Detected
	})
	if !e.Decision.Audit {
		t.Errorf("decision: %+v", e.Decision)
	}
	if r := b.act("read %s/secret/key", dir); !stopped(r) {
		t.Errorf("what is enforced beside it: %+v", r)
	}
}

// What changes a file by its name only is refused where BPF LSM acts.
func TestKernelFileRulesAboutNames(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectBlock)
	if !g.Objects().Tier1 {
		t.Log("tier 2 does not see these; docs/policy.md says so")
		return
	}
	acts := map[string]string{
		"remove": "remove %[1]s/config/file", "rename": "rename %[1]s/config/file %[1]s/free/taken",
		"replace": "rename %[1]s/free/file %[1]s/config/file", "link": "link %[1]s/config/file %[1]s/free/second",
		"create": "create %[1]s/config/new", "folder": "mkdir %[1]s/config/folder", "truncate": "truncate %[1]s/config/file",
		"mode": "chmod %[1]s/config/file", "owner": "chown %[1]s/config/file",
	}
	for name, act := range acts {
		if r := b.act(act, dir); r.code != int(syscall.EPERM) {
			t.Errorf("%s: %+v\n%s", name, r, g.told())
		}
	}
	if raw, err := os.ReadFile(dir + "/config/file"); err != nil || string(raw) != "content" {
		t.Errorf("what is read only holds %q (%v)", raw, err)
	}
	if r := b.act("remove %s/free/file", dir); r.code != 0 {
		t.Errorf("another file: %+v", r)
	}
	e := g.wait("the removal", func(e event.Event) bool { return e.File != nil && e.File.Act == "remove" && e.Decision != nil })
	if !strings.Contains(e.Decision.Why, "removed") || e.Decision.Control != event.ControlFileWrite {
		t.Errorf("decision: %+v", e.Decision)
	}
}

// A folder above what rules speak of would take it out of them under another name.
func TestKernelFileRulesAboutFoldersAbove(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectBlock)
	for _, name := range []string{"secret", "config", ""} {
		from, to := filepath.Join(dir, name), filepath.Clean(dir)+"-taken-"+name
		r := b.act("rename %s %s", from, to)
		if g.Objects().Tier1 {
			if !stopped(r) {
				t.Errorf("rename of %s: %+v\n%s", from, r, g.told())
			}
			continue
		}
		// There files keep what they were marked for.
		if r := b.act("read %s", filepath.Join(to, strings.TrimPrefix("secret", name), "key")); name != "config" && !stopped(r) {
			t.Errorf("read below %s: %+v\n%s", to, r, g.told())
		}
		if err := os.Rename(to, from); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.act("rename %s/free %s/other", dir, dir); r.code != 0 {
		t.Errorf("another folder: %+v\n%s", r, g.told())
	}
}

// A file that two containers know by different names is each one's by its own.
func TestKernelFileRulesOfFilesThatAreShared(t *testing.T) {
	needKernel(t)
	g, b, dir := guardedFiles(t, event.EffectBlock)
	if err := os.Symlink(dir+"/secret", dir+"/alias"); err != nil {
		t.Fatal(err)
	}
	other := g.box(assign(t, g, fileRules(event.EffectBlock, dir+"/alias/**", ""))).lived()
	if !g.Objects().Tier1 { // there the name of a link is none
		deadline := time.Now().Add(20 * time.Second)
		for !stopped(other.act("read %s/alias/key", dir)) {
			if time.Now().After(deadline) {
				t.Fatalf("the other's rules do not come into force:\n%s", g.told())
			}
		}
	}
	if r := b.act("read %s/secret/key", dir); !stopped(r) {
		t.Errorf("a denied file that another container names otherwise: %+v\n%s", r, g.told())
	}
}

// What is watched under one name, and denied under another, is denied.
func TestKernelFileRulesOfFilesThatAreWatched(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/run", 0o755), os.WriteFile(dir+"/run/token", []byte("x"), 0o644), os.Symlink(dir+"/run", dir+"/var"), os.WriteFile(dir+"/free", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	g := newGuard(t)
	if err := g.Watch(dir + "/var/*"); err != nil {
		t.Fatal(err)
	}
	run := fileRules(event.EffectBlock, dir+"/run/*", dir+"/free")
	b := g.box(assign(t, g, run)).lived()
	deadline := time.Now().Add(20 * time.Second)
	for _, act := range []string{"openwrite %s/free", "read %s/run/token"} {
		for !stopped(b.act(act, dir)) {
			if time.Now().After(deadline) {
				t.Fatalf("%s goes on:\n%s", act, g.told())
			}
		}
	}
}

// A file has another number after it was copied up, when its links are broken by that.
func TestKernelFileRulesOfFilesThatAreCopiedUp(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(dir+"/lower/secret", []byte("x"), 0o644), os.Link(dir+"/lower/secret", dir+"/lower/second")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		if errors.Is(err, unix.ENODEV) { // the guests' kernels come without that module
			t.Log("left out: this kernel has no overlay file systems")
			return
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir+"/merged", unix.MNT_DETACH) })
	g := newGuard(t)
	b := g.box(assign(t, g, fileRules(event.EffectBlock, dir+"/merged/secret", ""))).lived()
	deadline := time.Now().Add(20 * time.Second)
	for !stopped(b.act("read %s/merged/secret", dir)) {
		if time.Now().After(deadline) {
			t.Fatalf("the rules do not come into force:\n%s", g.told())
		}
	}
	b.act("chmod %s/merged/secret", dir) // refused on tier 1
	if r := b.act("read %s/merged/secret", dir); !stopped(r) {
		t.Errorf("a denied file that was copied up: %+v\n%s", r, g.told())
	}
}

// Of a folder with many files all keep what holds for them, under other names too.
func TestKernelFileRulesOfManyFiles(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/secret", 0o755); err != nil {
		t.Fatal(err)
	}
	const many = 600
	for i := range many {
		if err := os.WriteFile(fmt.Sprintf("%s/secret/%d", dir, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g := newGuard(t)
	b := g.box(assign(t, g, fileRules(event.EffectBlock, dir+"/secret/**", ""))).lived()
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; i < many; i += 20 {
		name := fmt.Sprintf("%s/other%d", dir, i)
		if r := b.act("link %s/secret/%d %s", dir, i, name); g.Objects().Tier1 {
			if !stopped(r) {
				t.Errorf("a denied file got another name: %+v", r)
			}
			continue
		}
		for !stopped(b.act("read %s", name)) {
			if time.Now().After(deadline) {
				t.Fatalf("a denied file is read by another name, %s", name)
			}
		}
	}
}

// A name of more bytes than the kernel's programs compare is below the folders that it
// is below.
func TestKernelFileRulesOfLongNames(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	long := dir + "/secret/" + strings.Repeat("l", 200) + "/" + strings.Repeat("m", 200)
	if err := errors.Join(os.MkdirAll(long, 0o755), os.WriteFile(long+"/key", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	g := newGuard(t)
	if g.Objects().Tier1 {
		t.Log("tier 1 does not refuse these; docs/policy.md says so")
		return
	}
	b := g.box(assign(t, g, fileRules(event.EffectBlock, dir+"/secret/**", ""))).lived()
	deadline := time.Now().Add(20 * time.Second)
	for !stopped(b.act("read %s/key", long)) {
		if time.Now().After(deadline) {
			t.Fatalf("a denied file of a long name is read:\n%s", g.told())
		}
	}
}
