package agent_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// family is a shell with what it started. All of them hold the end of a pipe: when
// it ends, none of them is left, whoever their parents are.
type family struct {
	shell *exec.Cmd
	lines *bufio.Reader
}

func newFamily(t *testing.T, script string) *family {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", script)
	c.Stdout = w
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what a failed test leaves
		_ = c.Wait()
		r.Close()
	})
	if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &family{c, bufio.NewReader(r)}
}

func (f *family) line(t *testing.T) string {
	t.Helper()
	line, err := f.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// event is a reverse shell, which is killed under any policy.
func (f *family) event(t *testing.T, key string) event.Event {
	t.Helper()
	pid := f.shell.Process.Pid
	return shell(key, &event.Process{ID: strconv.Itoa(pid) + "-" + strconv.FormatUint(started(t, pid), 10), PID: pid})
}

func (f *family) ends(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, f.lines); err != nil {
		t.Errorf("some of what the killed process started lives: %v", err)
	}
}

// TestKillsWhatTheProcessStarted: children and their children end with the process
// that is killed, and the record says how many. Nobody else does.
func TestKillsWhatTheProcessStarted(t *testing.T) {
	s := newSite(t)
	s.engine.add(idA, "web", nil)
	s.start()
	const leaf = `sh -c 'echo started; exec sleep 600'`
	victims := newFamily(t, leaf+` & sh -c "trap '' TERM HUP; `+strings.ReplaceAll(leaf, `'`, `\"`)+` & wait" & setsid `+leaf+` & wait`)
	others := newFamily(t, leaf)
	for range 3 {
		victims.line(t)
	}
	others.line(t)
	s.sensor.events <- victims.event(t, "tree")
	victims.ends(t)
	s.until("it is told", func() bool { return len(s.incidents()) == 1 })
	if said := s.incidents()[0].Sentence; !strings.HasSuffix(said, "; Breakwater killed the process.") {
		t.Errorf("the incident says %q", said)
	}
	r := s.incidents()[0].Responses
	if len(r) != 1 || !r[0].Done || r[0].Descendants != 4 || r[0].Message != "with 4 processes that it had started" {
		t.Errorf("%+v", r)
	}
	if err := others.shell.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process that has nothing to do with it: %v", err)
	}
}

// TestKillsWhatKeepsStarting: a tree that grows while it is being ended ends.
func TestKillsWhatKeepsStarting(t *testing.T) {
	s := newSite(t)
	s.start()
	// Bounded, should nobody end it.
	storm := newFamily(t, `i=0; while [ $i -lt 2000 ]; do (echo started; exec sleep 600) & i=$((i+1)); done; wait`)
	for range 20 {
		storm.line(t)
	}
	s.sensor.events <- storm.event(t, "storm")
	storm.ends(t)
	s.until("it is told", func() bool { return len(s.incidents()) == 1 })
	if r := s.incidents()[0].Responses; len(r) != 1 || !r[0].Done || r[0].Descendants < 20 || r[0].Descendants > 2000 {
		t.Errorf("%+v", r)
	}
}

// TestSparesOtherContainers: what a process started as a container of its own,
// elsewhere, is left alone; what hides in any other cgroup is not.
func TestSparesOtherContainers(t *testing.T) {
	s := newSite(t)
	s.start()
	f := newFamily(t, `for i in 1 2 3; do sh -c 'echo $$; exec sleep 600' & done; wait`)
	join := func(pid, group string) {
		dir := newCgroup(t, group)
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	other, hidden, inner := f.line(t), f.line(t), f.line(t)
	join(other, idB)
	join(hidden, "breakwater-test-hidden")
	join(inner, filepath.Join("docker-"+idA+".scope", idB))
	s.sensor.events <- f.event(t, "elsewhere")
	s.until("it is told", func() bool { return len(s.incidents()) == 1 })
	if r := s.incidents()[0].Responses; len(r) != 1 || !r[0].Done || r[0].Descendants != 2 {
		t.Errorf("%+v", r)
	}
	pid, err := strconv.Atoi(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the other container's process: %v", err)
	}
	f.ends(t) // it was the last
}

// newCgroup makes a folder in any hierarchy of this machine until the test ends.
func newCgroup(t *testing.T, path string) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			for dir := dir; dir != root; dir = filepath.Dir(dir) {
				empty(t, dir)
			}
		})
		return dir
	}
	testenv.Missing(t, "a cgroup hierarchy that may be written")
	return ""
}

// empty removes a cgroup once the last of its processes has gone.
func empty(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); syscall.Rmdir(dir) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s is not empty", dir)
			return
		}
	}
}
