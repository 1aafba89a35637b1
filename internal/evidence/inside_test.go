package evidence_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// cage runs a program that waits with another root, in a cgroup of a container's name.
func cage(t *testing.T, id, root string) (pid int) {
	t.Helper()
	testenv.NeedRoot(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Missing(t, "busybox: %v", err)
	}
	program, err := os.ReadFile(busybox)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "busybox"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/busybox", "sleep", "600")
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: root}, "/"
	return enclose(t, id, cmd)
}

// enclose starts a program in a cgroup of a container's name.
func enclose(t *testing.T, id string, cmd *exec.Cmd) (pid int) {
	t.Helper()
	testenv.NeedRoot(t)
	hierarchy, err := sensor.DetectHierarchy()
	if err != nil {
		testenv.Missing(t, "a cgroup hierarchy: %v", err)
	}
	group := filepath.Join(hierarchy.Root, id)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(errors.Join(err, os.Remove(group)))
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test's context may have ended it
		_ = cmd.Wait()
		for deadline := time.Now().Add(10 * time.Second); os.Remove(group) != nil && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // a cgroup empties a moment after its process
		}
	})
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// watchOpens says whether somebody opened a path since.
func watchOpens(t *testing.T, path string) func() bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		n, err := unix.Read(fd, make([]byte, 4096))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return n > 0
	}
}

// TestNoLinkLeadsOutOfTheContainer: whatever stands under the name of a dropped file,
// only what the container could read itself is kept, and no pipe holds anybody up.
func TestNoLinkLeadsOutOfTheContainer(t *testing.T) {
	root, host := t.TempDir(), t.TempDir()
	id := strings.Repeat("e51d", 16)
	pid := cage(t, id, root)
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(host, "secret"), "of the host")
	write(filepath.Join(host, "both"), "of the host")
	write(filepath.Join(root, host, "both"), "of the container")
	write(filepath.Join(root, "plain"), "dropped")
	if err := errors.Join(os.Symlink(host, filepath.Join(root, "out")), os.Symlink(filepath.Join(host, "secret"), filepath.Join(root, "direct")), syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644)); err != nil {
		t.Fatal(err)
	}
	opened := watchOpens(t, filepath.Join(root, "pipe"))
	s, _ := open(t)
	for n, path := range []string{"/out/secret", "/out/both", "/direct", "/pipe", "/../../.." + host + "/secret", "/plain"} {
		inc := incident("x", time.Now())
		inc.Key = "same"
		inc.Container.ID = id
		inc.Event.Process = &event.Process{ID: "1-1", PID: pid}
		inc.Event.Exec = &event.Exec{Path: path, Upper: true}
		if err := s.Look(t.Context(), inc); err != nil {
			t.Fatal(n, err)
		}
	}
	inc := incident("x", time.Now())
	inc.Key, inc.Container.ID = "same", id
	inc.Event.Process = &event.Process{ID: "1-1", PID: pid}
	inc.Event.File = &event.File{Path: "/etc/cron.d/evil", Write: true}
	if err := errors.Join(s.Look(t.Context(), inc), s.Note(inc)); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(root, "etc/cron.d/evil"), "* * * * * root /plain") // a moment after it was opened
	m, files := contents(t, s, "same")
	got := map[string]string{}
	for _, f := range m.Dropped {
		got[f.Path] = files[f.Name]
	}
	if len(got) != 3 || got["/out/both"] != "of the container" || got["/etc/cron.d/evil"] != "* * * * * root /plain" || got["/plain"] != "dropped" {
		t.Errorf("kept: %q", got)
	}
	if opened() { // what opens a device may act on it: a container that makes one decides on what
		t.Error("what is no file was opened")
	}
	if len(m.Gaps) < 4 {
		t.Errorf("what was not kept is not told: %q", m.Gaps)
	}
}

// TestWhatIsNoFileIsNotOpened: a device acts when it is opened, and a container may
// put one under the name of what it executed.
func TestWhatIsNoFileIsNotOpened(t *testing.T) {
	root := t.TempDir()
	id := strings.Repeat("e52d", 16)
	pid := cage(t, id, root)
	kinds := map[string]uint32{"/pipe": syscall.S_IFIFO, "/device": syscall.S_IFCHR}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	for path, kind := range kinds {
		if err := syscall.Mknod(root+path, kind|0o644, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.InotifyAddWatch(watch, root+path, unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := open(t)
	for path := range kinds {
		inc := incident("x", time.Now())
		inc.Key, inc.Container.ID = "same", id
		inc.Event.Process = &event.Process{ID: "1-1", PID: pid}
		inc.Event.Exec = &event.Exec{Path: path, Upper: true}
		if err := s.Look(t.Context(), inc); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("they were opened: %d bytes of news (%v)", n, err)
	}
	if m, _ := contents(t, s, "same"); len(m.Dropped) != 0 || len(m.Gaps) < 2 {
		t.Errorf("kept %v, missing %q", m.Dropped, m.Gaps)
	}
}

// TestNothingIsReadByTheHostsRoot: who is on its way into a container still has the
// root of the host.
func TestNothingIsReadByTheHostsRoot(t *testing.T) {
	id := strings.Repeat("e53d", 16)
	pid := enclose(t, id, exec.CommandContext(t.Context(), "sleep", "600"))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := open(t)
	inc := incident("x", time.Now())
	inc.Key, inc.Container.ID = "same", id
	inc.Event.Process = &event.Process{ID: "1-1", PID: pid}
	inc.Event.Exec = &event.Exec{Path: secret, Upper: true}
	inc.Event.File = &event.File{Path: secret, Write: true}
	if err := errors.Join(s.Look(t.Context(), inc), s.Note(inc)); err != nil {
		t.Fatal(err)
	}
	if m, _ := contents(t, s, "same"); len(m.Dropped) != 0 || len(m.Gaps) < 2 {
		t.Errorf("kept %v, missing %q", m.Dropped, m.Gaps)
	}
}
