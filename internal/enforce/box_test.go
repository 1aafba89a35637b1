package enforce_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// guard is a loaded kernel that sees only the containers below a cgroup of the
// test's own, and what it reported.
type guard struct {
	*enforce.Kernel
	t      testing.TB
	opts   enforce.Options
	parent string // the cgroup folder that the test's containers stand in
	sensor *sensor.Sensor

	bored func(event.Event) bool // whether nothing came of an event; nil: something always does

	mu     sync.Mutex
	events []event.Event
	more   chan struct{} // closed and renewed with each event
}

func needKernel(t testing.TB) {
	t.Helper()
	testenv.NeedRoot(t)
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		testenv.Missing(t, "needs a kernel with BTF: %v", err)
	}
}

// scope makes a cgroup of the test's own and the options that keep to it.
func scope(t testing.TB, h *sensor.Hierarchy) enforce.Options {
	t.Helper()
	needKernel(t)
	if h == nil {
		found, err := sensor.DetectHierarchy()
		if err != nil {
			testenv.Missing(t, "needs cgroups: %v", err)
		}
		h = &found
	}
	parent := filepath.Join(h.Root, fmt.Sprintf("breakwater-test-%d-%s", os.Getpid(), randomID()[:6]))
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(t, parent) })
	pin := filepath.Join(t.TempDir(), "bpf")
	t.Cleanup(func() {
		if err := sensor.Remove(pin); err != nil {
			t.Errorf("remove pins: %v", err)
		}
	})
	byReturn := os.Getenv("BREAKWATER_TEST_RETURN") == "1"
	return enforce.Options{
		Pin: pin, Hierarchy: h, Under: parent, Tier1: os.Getenv("BREAKWATER_TEST_TIER1") == "1" || byReturn,
		ByReturn: byReturn, Syscalls: os.Getenv("BREAKWATER_TEST_SYSCALLS") == "1",
	}
}

// journalOf is a file beside the pins.
func journalOf(opts enforce.Options) string { return filepath.Join(filepath.Dir(opts.Pin), "asked") }

// removeLeftovers ends what a test process that was killed left in force.
func removeLeftovers() {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.Contains(line, " - bpf ") {
			continue
		}
		if ok, _ := filepath.Match(filepath.Join(os.TempDir(), "Test*", "*", "bpf"), fields[4]); ok {
			_ = sensor.Remove(fields[4]) // busy: another test's that runs
		}
	}
}

func removeGroup(t testing.TB, path string) {
	_ = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error { return nil })
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			removeGroup(t, filepath.Join(path, e.Name()))
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := os.Remove(path)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("remove cgroup: %v", err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func newGuard(t testing.TB) *guard { return guardWith(t, scope(t, nil)) }

func guardWith(t testing.TB, opts enforce.Options) *guard {
	t.Helper()
	k, err := enforce.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{Kernel: k, t: t, opts: opts, parent: opts.Under, more: make(chan struct{})}
	g.sensor, err = sensor.New(k.Objects(), sensor.Settings{Host: "testhost", Rules: k, Journal: journalOf(opts)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.sensor.Run(ctx, g.keep) }()
	select {
	case <-g.sensor.Ready():
	case err := <-done:
		t.Fatalf("sensor: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sensor: %v", err)
		}
		for _, e := range g.events {
			if e.Notice != nil && e.Notice.Code == event.NoticeUnreadable {
				t.Error(e.Notice.Message)
			}
		}
		_ = k.Close()
	})
	return g
}

func (g *guard) keep(e event.Event) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
	close(g.more)
	g.more = make(chan struct{})
	return g.bored != nil && g.bored(e)
}

// forget drops what was told.
func (g *guard) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = nil
}

// wait returns the first event that matches, waiting for it.
func (g *guard) wait(what string, match func(event.Event) bool) event.Event {
	g.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		g.mu.Lock()
		for _, e := range g.events {
			if match(e) {
				g.mu.Unlock()
				return e
			}
		}
		more := g.more
		g.mu.Unlock()
		select {
		case <-more:
		case <-timeout:
			g.t.Fatalf("no event: %s; there were:\n%s", what, g.told())
		}
	}
}

func (g *guard) told() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for _, e := range g.events {
		fmt.Fprintf(&b, "  %s", e.Kind)
		if e.Container != nil {
			fmt.Fprintf(&b, " %.12s", e.Container.ID)
		}
		if e.Process != nil {
			fmt.Fprintf(&b, " %s %s", e.Process.Comm, e.Process.Path)
		}
		if e.Exec != nil {
			fmt.Fprintf(&b, " %+v", *e.Exec)
		}
		if e.Exit != nil {
			fmt.Fprintf(&b, " %+v", *e.Exit)
		}
		if e.Network != nil {
			fmt.Fprintf(&b, " %+v", *e.Network)
		}
		if e.File != nil {
			fmt.Fprintf(&b, " %+v", *e.File)
		}
		if e.Decision != nil {
			fmt.Fprintf(&b, " → %s %s %s", e.Decision.Control, e.Decision.Outcome, e.Decision.Why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// decided matches a decision about a container.
func decided(id string, c event.Control, o event.Outcome) func(event.Event) bool {
	return func(e event.Event) bool {
		return e.Container != nil && e.Container.ID == id && e.Decision != nil && e.Decision.Control == c && e.Decision.Outcome == o
	}
}

// box is a container as the kernel sees one: a cgroup with a container's name,
// and processes of another mount namespace.
type box struct {
	g   *guard
	id  string
	dir string
}

func randomID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (g *guard) box(prepare ...func(id string)) *box {
	return g.boxNamed(randomID(), "", "", prepare...)
}

func (g *guard) boxNamed(id, prefix, suffix string, prepare ...func(id string)) *box {
	g.t.Helper()
	for _, f := range prepare {
		f(id)
	}
	b := &box{g: g, id: id, dir: filepath.Join(g.parent, prefix+id+suffix)}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { removeGroup(g.t, b.dir) })
	return b
}

// result is how a program in a box ended.
type result struct {
	out    string
	code   int // 128 + signal
	err    error
	killed bool
}

// command prepares a program in the box: born in its cgroup, with a mount and
// a network namespace of its own.
func (b *box) command(path string, args ...string) *exec.Cmd {
	b.g.t.Helper()
	dir, err := os.Open(b.dir)
	if err != nil {
		b.g.t.Fatal(err)
	}
	b.g.t.Cleanup(func() { _ = dir.Close() })
	c := exec.Command(path, args...)
	c.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
	}
	c.Stderr = os.Stderr
	return c
}

// start starts a program of a box. A process can be born in a cgroup of a v1
// hierarchy only by way of the thread that makes it (cgroup v1, "tasks").
func start(c *exec.Cmd) error {
	attr := c.SysProcAttr
	if attr == nil || !attr.UseCgroupFD {
		return c.Start()
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(attr.CgroupFD, &fs); err != nil || fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return errors.Join(err, c.Start())
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", attr.CgroupFD))
	if err != nil {
		return err
	}
	attr.UseCgroupFD = false
	runtime.LockOSThread() // not unlocked when the thread cannot be moved back: then it is given up
	thread := []byte(strconv.Itoa(unix.Gettid()))
	if err := os.WriteFile(filepath.Join(dir, "tasks"), thread, 0); err != nil {
		return err
	}
	err = c.Start()
	if back := os.WriteFile(filepath.Join(mountOf(dir), "tasks"), thread, 0); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// mountOf is the root of the file system that a folder is in.
func mountOf(dir string) string {
	var here, above unix.Stat_t
	for dir != "/" && unix.Stat(dir, &here) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && here.Dev == above.Dev {
		dir = filepath.Dir(dir)
	}
	return dir
}

func finish(c *exec.Cmd) result {
	var out bytes.Buffer
	c.Stdout = &out
	err := start(c)
	if err == nil {
		err = c.Wait()
	}
	r := result{out: out.String(), err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			r.code, r.killed = 128+int(ws.Signal()), true
		}
	} else if err != nil {
		r.code = 126
	}
	return r
}

func (b *box) run(path string, args ...string) result { return finish(b.command(path, args...)) }

func (b *box) actCommand(act string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		b.g.t.Fatal(err)
	}
	c := b.command(self)
	c.Env = append(os.Environ(), actVar+"="+act)
	return c
}

// act lets the test binary do something in the box.
func (b *box) act(format string, args ...any) result {
	b.g.t.Helper()
	return finish(b.actCommand(fmt.Sprintf(format, args...)))
}

// inHostNetwork keeps the program in the machine's network namespace, where
// the test's listeners are.
func inHostNetwork(c *exec.Cmd) *exec.Cmd {
	c.SysProcAttr.Cloneflags &^= syscall.CLONE_NEWNET
	return c
}

// program writes the tiny program into a folder and lets a tick of the file
// systems' clock pass, as between an image's making and a container's start.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny")
	if err := os.WriteFile(path, tinyProgram(t), 0o755); err != nil {
		t.Fatal(err)
	}
	settle(t, path)
	return path
}

// tinyProgram is a static program that writes one byte and ends.
func tinyProgram(t testing.TB) []byte {
	t.Helper()
	data, err := testenv.TinyProgram()
	if err != nil {
		testenv.Missing(t, "a static program: %v", err)
	}
	return data
}

// settle waits until the file's change lies further back than the clock's
// grain that drift allows for.
func settle(t testing.TB, path string) {
	t.Helper()
	for {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if time.Since(time.Unix(st.Ctim.Unix())) > 30*time.Millisecond {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// refused is what a refused program looks like: killed on Tier 2, EPERM on Tier 1.
func (r result) refused() bool {
	return r.out == "" && (r.code == 128+int(syscall.SIGKILL) || r.code == 126 && errors.Is(r.err, syscall.EPERM) || r.code == int(syscall.EPERM))
}
