package enforce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// loaderVar makes the test binary load everything, set a strict default, say
// so and wait to be killed: an agent that dies. readerVar makes it read events
// too, and die over the first decision.
const (
	loaderVar = "BREAKWATER_ENFORCE_LOADER"
	readerVar = "BREAKWATER_ENFORCE_READER"
)

func loader(args string) int {
	pin, under, _ := strings.Cut(args, " ")
	k, err := enforce.Open(context.Background(), enforce.Options{
		Pin: pin, Under: under, ByReturn: os.Getenv("BREAKWATER_TEST_RETURN") == "1",
		Tier1: os.Getenv("BREAKWATER_TEST_TIER1") == "1" || os.Getenv("BREAKWATER_TEST_RETURN") == "1",
	})
	if err == nil {
		err = k.SetDefault(strict())
	}
	kind := event.Kind(os.Getenv(readerVar))
	if err == nil && kind != "" && kind != event.KindExec {
		err = k.SetDefault(policy.Run{})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if kind != "" {
		return reader(k, kind, filepath.Join(filepath.Dir(pin), "asked"))
	}
	fmt.Println("loaded")
	select {}
}

// reader never comes to an end with the first event of a kind that is decided,
// or with the first of a kind when that never is.
func reader(k *enforce.Kernel, kind event.Kind, journal string) int {
	s, err := sensor.New(k.Objects(), sensor.Settings{Host: "testhost", Rules: k, Journal: journal})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		<-s.Ready()
		fmt.Println("loaded")
	}()
	fmt.Println(s.Run(context.Background(), func(e event.Event) bool {
		if e.Kind != kind || kind != event.KindExit && e.Decision == nil {
			return false
		}
		fmt.Println("told")
		select {}
	}))
	return 1
}

// dyingAgent is a loader in a process of its own.
type dyingAgent struct {
	t   *testing.T
	cmd *exec.Cmd
	out io.Reader
}

func newDyingAgent(t *testing.T, opts enforce.Options, more ...string) *dyingAgent {
	t.Helper()
	self, _ := os.Executable()
	a := &dyingAgent{t: t, cmd: exec.Command(self)}
	a.cmd.Env = append(append(os.Environ(), loaderVar+"="+opts.Pin+" "+opts.Under), more...)
	var err error
	if a.out, err = a.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := start(a.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
	a.says("loaded")
	return a
}

func (a *dyingAgent) says(want string) {
	a.t.Helper()
	var word string
	if _, err := fmt.Fscanln(a.out, &word); err != nil || word != want {
		a.t.Fatalf("loader: %q %v, want %q", word, err, want)
	}
}

func (a *dyingAgent) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// What an agent was told of and was killed over is told to the next, as the
// same: decisions, what only detections look at, and what the kernel asks about.
func TestKernelTellsTheNextAgent(t *testing.T) {
	tiny := program(t)
	for kind, attack := range map[event.Kind]func(b *box) result{
		event.KindExec:     func(b *box) result { return b.run(tiny) },
		event.KindExit:     func(b *box) result { return b.act("nothing") },
		event.KindFileOpen: func(b *box) result { return b.act("openwrite %s/release_agent", v1Root(t)) },
	} {
		t.Run(string(kind), func(t *testing.T) {
			opts := scope(t, nil)
			agent := newDyingAgent(t, opts, readerVar+"="+string(kind))
			b := (&guard{t: t, opts: opts, parent: opts.Under}).box()
			if r := attack(b); r.refused() == (kind == event.KindExit) {
				t.Fatalf("%+v", r)
			}
			agent.says("told")
			agent.kill()
			g := guardWith(t, opts)
			e := g.wait("what the dead agent was told", func(e event.Event) bool {
				return e.Container != nil && e.Container.ID == b.id && e.Kind == kind && (kind == event.KindExit || e.Decision != nil)
			})
			if kind != event.KindExit && (e.Decision.Outcome == event.Detected || e.Process.PID == 0) {
				t.Errorf("%+v %+v", e.Process, e.Decision)
			}
		})
	}
}

func TestKernelSurvivesItsLoader(t *testing.T) {
	opts := scope(t, nil)
	tiny := program(t)
	agent := newDyingAgent(t, opts)
	if _, err := enforce.Open(t.Context(), opts); !errors.Is(err, sensor.ErrBusy) {
		t.Errorf("a second agent: %v", err)
	}
	agent.kill()

	orphan := &guard{t: t, opts: opts, parent: opts.Under}
	b := orphan.box()
	if r := b.run(tiny); !r.refused() {
		t.Fatalf("with the loader dead: %+v", r)
	}
	// The next agent finds what it left, and reads what happened meanwhile.
	g := guardWith(t, opts)
	if g.Fresh() {
		t.Error("nothing was found of the dead agent")
	}
	e := g.wait("what happened meanwhile", func(e event.Event) bool {
		return e.Container.ID == b.id && e.Decision != nil && e.Decision.Outcome == denial(g)
	})
	if e.Process == nil || e.Exec.Path != tiny {
		t.Errorf("event: %+v", e)
	}
	if list, err := g.Containers(); err != nil || len(list) != 1 || list[0].ID != b.id || !list[0].Default {
		t.Errorf("containers: %+v %v", list, err)
	}
	if r := b.run(tiny); !r.refused() {
		t.Errorf("after the reopening: %+v", r)
	}
	if err := g.SetDefault(policy.Run{}); err != nil {
		t.Fatal(err)
	}
	if r := b.run(tiny); r.out != "x" {
		t.Errorf("with another default: %+v", r)
	}
}

func TestKernelUnload(t *testing.T) {
	opts := scope(t, nil)
	k, err := enforce.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetDefault(strict()); err != nil {
		t.Fatal(err)
	}
	orphan := &guard{t: t, opts: opts, parent: opts.Under}
	b := orphan.box()
	tiny := program(t)
	if r := b.run(tiny); !r.refused() {
		t.Fatalf("loaded: %+v", r)
	}
	if err := k.Unload(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(opts.Pin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin folder: %v", err)
	}
	// A link is released by the kernel a moment after its last name.
	deadline := time.Now().Add(5 * time.Second)
	for r := b.run(tiny); r.out != "x"; r = b.run(tiny) {
		if time.Now().After(deadline) {
			t.Fatalf("unloaded: %+v", r)
		}
	}
}

// Programs of another version are replaced: the folder of their links is what
// tells versions apart.
func TestKernelReplacesOldPrograms(t *testing.T) {
	opts := scope(t, nil)
	k, err := enforce.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetDefault(strict()); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(opts.Pin + "/links-*")
	if err != nil || len(links) != 1 {
		t.Fatalf("links: %v %v", links, err)
	}
	if err := os.Rename(links[0], opts.Pin+"/links-old"); err != nil {
		t.Fatal(err)
	}
	g := guardWith(t, opts)
	if _, err := os.Stat(opts.Pin + "/links-old"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old programs are still there: %v", err)
	}
	b := g.box()
	if r := b.run(program(t)); !r.refused() {
		t.Errorf("after the replacement: %+v", r)
	}
}

// A switch of policy allows at no moment what both policies refuse.
func TestKernelSwitchHasNoGap(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	one, two := only("/one"), only("/two")
	b := g.box(assign(t, g, one))
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			run := one
			if i%2 == 0 {
				run = two
			}
			run.Generation = uint64(i % 8)
			if err := g.SetDefault(run); err != nil {
				done <- err
				return
			}
			if err := g.Assign(b.id, run); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 200 {
		if r := b.run(tiny); !r.refused() {
			t.Fatalf("in between: %+v", r)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A container that ran before the programs comes under policy when adopted.
func TestKernelAdopt(t *testing.T) {
	opts := scope(t, nil)
	tiny := program(t)
	early := &guard{t: t, opts: opts, parent: opts.Under}
	b := early.box()
	self, _ := os.Executable()
	holding := b.command(self)
	holding.Env = append(os.Environ(), actVar+"=hold runstay "+tiny)
	in, err := holding.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holding.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(holding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holding.Process.Kill() })
	var word string
	if _, err := fmt.Fscanln(out, &word); err != nil {
		t.Fatal(err)
	}
	g := guardWith(t, opts)
	if err := g.SetDefault(only(self)); err != nil {
		t.Fatal(err)
	}
	if ids, err := g.AdoptRunning(); err != nil || len(ids) != 1 || ids[0] != b.id {
		t.Fatalf("adopted %v: %v", ids, err)
	}
	fmt.Fprintln(in, "go")
	e := g.wait("refusal", decided(b.id, event.ControlExec, denial(g)))
	tree := g.sensor.Tree(e.Process.ID)
	_ = in.Close() // it ends now
	_ = holding.Wait()
	if len(tree) < 2 || tree[len(tree)-2].PID != holding.Process.Pid {
		t.Errorf("tree: %+v", tree)
	}
}

// On v1 hosts a controller's group names the container, for the network too.
func TestKernelV1Hierarchy(t *testing.T) {
	h, err := sensor.V1Hierarchy("v1", nil)
	if err != nil {
		t.Skipf("left out: no v1 hierarchy here: %v", err)
	}
	g := guardWith(t, scope(t, &h))
	if err := g.SetDefault(strict()); err != nil {
		t.Fatal(err)
	}
	tiny := program(t)
	b := g.box()
	self, _ := os.Executable()
	c := exec.Command(self)
	c.Env = append(os.Environ(), actVar+"=joinrun "+b.dir+"/cgroup.procs "+tiny)
	if r := finish(c); !r.refused() {
		t.Errorf("exec: %+v\n%s", r, g.told())
	}
	g.wait("refusal", func(e event.Event) bool { return e.Container.ID == b.id && e.Decision != nil })
	c = exec.Command(self)
	c.Env = append(os.Environ(), actVar+"=joinact "+b.dir+"/cgroup.procs connect tcp4 198.51.100.1:80")
	if r := finish(c); r.code != 1 {
		t.Errorf("connect: %+v\n%s", r, g.told())
	}
}

func TestKernelAccounts(t *testing.T) {
	g := newGuard(t)
	b := g.box()
	tiny := program(t)
	for range 5 {
		b.run(tiny)
	}
	g.wait("exit", func(e event.Event) bool { return e.Kind == event.KindExit })
	list, err := g.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Kind == event.KindExec && (a.Emitted < 5 || a.Dropped != 0) {
			t.Errorf("account: %+v", a)
		}
	}
}
