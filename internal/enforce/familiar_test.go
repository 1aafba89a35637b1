package enforce_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// bored makes the guard answer that nothing ever comes of an event.
func bored(g *guard) *guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bored = func(event.Event) bool { return true }
	return g
}

// lived starts a process in a box that stays: what is watched in a container is
// found by way of one that lives.
func (b *box) lived() *box {
	b.g.t.Helper()
	c := b.command("/bin/sleep", "600")
	if err := start(c); err != nil {
		b.g.t.Fatal(err)
	}
	b.g.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return b
}

// untold is how many events of a kind the kernel kept to itself.
func (g *guard) untold(kind event.Kind) uint64 {
	g.t.Helper()
	accounts, err := g.Accounts()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, a := range accounts {
		if a.Kind == kind {
			return a.Repeated
		}
	}
	g.t.Fatalf("no account of %s", kind)
	return 0
}

// until does something again and again until the kernel keeps an execution to
// itself.
func (g *guard) until(do func()) {
	g.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for before := g.untold(event.KindExec); g.untold(event.KindExec) == before; {
		if time.Now().After(deadline) {
			g.t.Fatalf("every execution is told; there were:\n%s", g.told())
		}
		do()
	}
}

// executions counts those of a program with an argument.
func (g *guard) executions(path, arg string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Kind == event.KindExec && e.Process.Path == path && len(e.Process.Args) == 2 && e.Process.Args[1] == arg {
			n++
		}
	}
	return n
}

func ran(path, arg string) func(event.Event) bool {
	return func(e event.Event) bool {
		return e.Kind == event.KindExec && e.Process.Path == path && len(e.Process.Args) == 2 && e.Process.Args[1] == arg
	}
}

func TestKernelFamiliarExecutionsAreCounted(t *testing.T) {
	needKernel(t)
	g := bored(newGuard(t))
	tiny := program(t)
	b, other := g.box().lived(), g.box()
	g.until(func() { b.run(tiny, "same") })
	g.wait("the execution before it was familiar", ran(tiny, "same"))

	b.run(tiny, "mark") // what was told before it is read before it
	g.wait("the mark", ran(tiny, "mark"))
	told := g.executions(tiny, "same")
	ends := g.untold(event.KindExit)
	for range 10 {
		b.run(tiny, "same")
	}
	// Another argument, and another container, are something new.
	b.run(tiny, "other")
	g.wait("another argument", ran(tiny, "other"))
	other.run(tiny, "same")
	g.wait("another container", func(e event.Event) bool { return ran(tiny, "same")(e) && e.Container.ID == other.id })
	if n := g.executions(tiny, "same"); n != told+1 {
		t.Errorf("told of %d familiar executions:\n%s", n-told-1, g.told())
	}
	if n := g.untold(event.KindExit) - ends; n < 10 {
		t.Errorf("%d ends were kept, of 10 processes that nobody was told of", n)
	}

	g.sensor.Reconsider(b.id)
	g.forget()
	b.run(tiny, "same")
	g.wait("the familiar execution, after the rules changed", ran(tiny, "same"))
}

// Of threads that end at once each may find itself the last: the end is told once.
func TestKernelAProcessEndsOnce(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	for range 40 {
		b.act("nothing") // the test's own binary, which has several threads
	}
	b.run(program(t), "last")
	last := g.wait("the last process", func(e event.Event) bool {
		return e.Kind == event.KindExec && len(e.Process.Args) == 2 && e.Process.Args[1] == "last"
	})
	g.wait("its end", func(e event.Event) bool { return e.Kind == event.KindExit && e.Process.ID == last.Process.ID })
	ends := map[string]int{}
	g.mu.Lock()
	for _, e := range g.events {
		if e.Kind == event.KindExit {
			ends[e.Process.ID]++
		}
	}
	g.mu.Unlock()
	if len(ends) != 41 {
		t.Errorf("%d processes ended, of 41", len(ends))
	}
	for id, n := range ends {
		if n != 1 {
			t.Errorf("process %s ended %d times", id, n)
		}
	}
}

func TestKernelFamiliarExecutionsAreJudged(t *testing.T) {
	needKernel(t)
	g := bored(newGuard(t))
	tiny := program(t)
	b := g.box().lived()
	g.until(func() { b.run(tiny, "x") })
	assign(t, g, not(tiny))(b.id)
	for range 3 {
		g.forget()
		if r := b.run(tiny, "x"); r.err == nil {
			t.Fatal("a denied program ran, for it was familiar")
		}
		g.wait("the refused execution", func(e event.Event) bool {
			return e.Kind == event.KindExec && e.Decision != nil && e.Decision.Control == event.ControlExec
		})
	}
}

func TestKernelAFamiliarProcessThatDoesSomethingNewIsIntroduced(t *testing.T) {
	needKernel(t)
	g := bored(newGuard(t))
	b := g.box().lived()
	g.until(func() { b.act("nothing") }) // acts are in the environment: the executions are the same
	g.forget()
	b.act("connect tcp4 198.51.100.1:80")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := g.wait("the connection", func(e event.Event) bool { return e.Kind == event.KindConnect })
	if e.Process.Path != self || len(e.Process.Args) == 0 {
		t.Errorf("the process of a familiar execution is not known: %+v\n%s", e.Process, g.told())
	}
	g.wait("its end, now that it was told of", func(x event.Event) bool { return x.Kind == event.KindExit && x.Process.ID == e.Process.ID })
}

func TestKernelTheLineageOfSomethingNewIsIntroduced(t *testing.T) {
	needKernel(t)
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	g := bored(newGuard(t))
	tiny := program(t)
	b := g.box().lived()
	script := filepath.Join(t.TempDir(), "script")
	// A shell that starts a shell that starts what the script says: both are
	// familiar when the script changes.
	write := func(arg string) {
		line := fmt.Sprintf("%s %s; :\n", tiny, arg)
		if err := os.WriteFile(script, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func() { b.run("/bin/sh", "-c", "/bin/sh -c '. "+script+"; :'; :") }
	write("known")
	deadline := time.Now().Add(20 * time.Second)
	for before := g.untold(event.KindExec); ; before = g.untold(event.KindExec) {
		run()
		if g.untold(event.KindExec) == before+3 {
			break // the three of them
		}
		if time.Now().After(deadline) {
			t.Fatalf("the shells do not become familiar:\n%s", g.told())
		}
	}
	g.forget()
	write("new")
	run()
	e := g.wait("the new execution", ran(tiny, "new"))
	tree := g.sensor.Tree(e.Process.ID)
	var paths []string
	for _, p := range tree {
		paths = append(paths, p.Path)
	}
	if n := len(tree); n < 3 || tree[n-3].Path != sh || tree[n-2].Path != sh || len(tree[n-2].Args) != 3 {
		t.Errorf("lineage %v, want two shells before it\n%s", paths, g.told())
	}
	if e.Process.ParentPath != sh {
		t.Errorf("its parent is %q, want %s", e.Process.ParentPath, sh)
	}
}

func TestKernelAFamiliarProcessThatChangesAWatchedFileIsNamed(t *testing.T) {
	needKernel(t)
	g := bored(newGuard(t))
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/from", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.Watch(dir+"/into/*", dir+"/from"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/into", 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := g.box().lived()
	g.until(func() { b.act("nothing") })
	g.forget()
	for i := range 5 {
		// Written over what is watched: one process each, that ends at once.
		name := fmt.Sprintf("%s/into/%d", dir, i)
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		opened := func(e event.Event) bool { return e.File != nil && e.File.Path == name && e.File.Write }
		b.act("openwrite %s", name)
		e := g.wait(name, opened)
		if e.Process.Path != self {
			t.Errorf("%s: changed by %+v", name, e.Process)
		}
		if !g.Objects().Quiet {
			continue
		}
		moved := fmt.Sprintf("%s/into/moved%d", dir, i)
		if err := os.WriteFile(dir+"/spare", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.act("rename %s/spare %s", dir, moved)
		e = g.wait(moved, func(e event.Event) bool { return e.File != nil && e.File.Path == moved })
		if e.Process.Path != self {
			t.Errorf("%s: put there by %+v", moved, e.Process)
		}
	}
}

// What a program starts that something was decided about is not what the one before it
// started.
func TestKernelWhatADetectedProgramStartsIsNotFamiliar(t *testing.T) {
	needKernel(t)
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	dropped := filepath.Join(t.TempDir(), "sh") // busybox goes by its name
	if err := os.WriteFile(dropped, content, 0o755); err != nil {
		t.Fatal(err)
	}
	g := bored(newGuard(t))
	tiny := program(t)
	run := not(dropped)
	run.Exec.Effect = event.EffectAlert
	b := g.box(assign(t, g, run)).lived()
	g.until(func() { b.run(tiny, "same") })
	g.forget()
	b.run(dropped, "-c", tiny+" same; :")
	g.wait("the detected program", decided(b.id, event.ControlExec, event.Detected))
	e := g.wait("what it started", ran(tiny, "same"))
	// By the tree: the two are told by different rings, in either order.
	if tree := g.sensor.Tree(e.Process.ID); len(tree) < 2 || tree[len(tree)-2].Path != dropped {
		t.Errorf("started by %+v, want %s", tree, dropped)
	}
}
