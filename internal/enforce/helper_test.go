package enforce_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
	"golang.org/x/sys/unix"
)

// release makes the host's kernel run a program, as it does when the last
// process leaves a cgroup of a hierarchy that has a release_agent. The program
// gets the cgroup's name, which begins at the hierarchy's root.
func release(t *testing.T, program string) (name string) {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("cgroup", root, "cgroup", 0, "none,name=breakwater-helper"); err != nil {
		testenv.Missing(t, "needs a kernel with v1 cgroups: %v", err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	name = "/breakwater-" + randomID()[:12]
	group := filepath.Join(root, name)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, value := range map[string]string{filepath.Join(root, "release_agent"): program, filepath.Join(group, "notify_on_release"): "1"} {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/bin/sleep", "0")
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	b := &box{g: &guard{t: t}, dir: group}
	c = b.command(c.Path, c.Args[1:]...)
	c.SysProcAttr.Cloneflags = 0
	if r := finish(c); r.err != nil {
		t.Fatalf("a process in the group: %+v", r)
	}
	return name
}

// made tells whether a folder of the host's root is there, waiting for it as
// long as a helper takes to start.
func made(t *testing.T, name string, within time.Duration) bool {
	t.Helper()
	t.Cleanup(func() { _ = os.Remove(name) })
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return true
		}
	}
	return false
}

// A program of a container that the host's kernel is made to run never runs,
// however it came to be named: here by the host itself. The folder that it
// would make is the witness.
func TestKernelHelperOfAContainer(t *testing.T) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		testenv.Missing(t, "needs busybox: %v", err)
	}
	g := newGuard(t)
	storage, elsewhere := t.TempDir(), t.TempDir()
	if err := g.SetStorage([]string{storage}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{storage, elsewhere} {
		if err := os.WriteFile(filepath.Join(dir, "mkdir"), busybox, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/busybox sh\n/bin/busybox mkdir \"$1\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"mkdir", "script"} {
		if name := release(t, filepath.Join(elsewhere, program)); !made(t, name, 10*time.Second) {
			t.Fatalf("a helper of the host's own did not run: %s\n%s", program, g.told())
		}
	}
	for _, path := range []string{storage + "/mkdir", storage + "/script", elsewhere + "/../" + filepath.Base(storage) + "/script"} {
		name := release(t, path)
		e := g.wait("helper", func(e event.Event) bool { return e.Kind == event.KindExec && e.Exec.ByKernel })
		if e.Container != nil || e.Decision.Rule != "escape-kernel-helper" || e.Decision.Outcome != event.Killed {
			t.Errorf("%s: told as %+v %+v", path, e, e.Decision)
		}
		if made(t, name, 200*time.Millisecond) {
			t.Errorf("%s ran", path)
		}
		g.forget()
	}
}
