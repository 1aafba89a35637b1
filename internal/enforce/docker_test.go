package enforce_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// engine is a real Docker whose containers stand below the test's cgroup.
type engine struct {
	*testenv.Docker
	g     *guard
	image string
}

func newEngine(t *testing.T) *engine {
	needKernel(t)
	d := testenv.NeedDocker(t)
	e := &engine{Docker: d, g: newGuard(t), image: d.BusyboxImage(t)}
	t.Cleanup(func() { // the engine made the parent group in every hierarchy
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(e.g.parent))
		for _, g := range groups {
			removeGroup(t, g)
		}
	})
	return e
}

// create makes a container and puts it under a policy before it starts, as
// the agent does on the engine's word.
func (e *engine) create(t *testing.T, run *policy.Run, args ...string) string {
	t.Helper()
	full := append([]string{"create", "--network=none", "--cgroup-parent=/" + filepath.Base(e.g.parent)}, args...)
	id := e.MustRun(t, full...)
	e.Remove(t, id)
	if run != nil {
		if err := e.g.Assign(id, *run); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func (e *engine) start(id string) (out string, code int) {
	stdout, stderr, code := e.Run("start", "-a", id)
	return stdout + stderr, code
}

func busyboxOnly() policy.Run {
	run := only("/bin/busybox")
	run.Drift = policy.Switch{On: true, Effect: event.EffectBlock}
	run.Fileless = run.Drift
	run.Network = policy.Network{Effect: event.EffectBlock, Restrict: true}
	return run
}

func TestDockerFullPolicy(t *testing.T) {
	e := newEngine(t)
	run := busyboxOnly()
	for _, test := range []struct{ name, script, want, never string }{
		{"allowed", "echo hello; ls /bin/busybox", "hello", ""},
		{"dropped", "cp /bin/busybox /tmp/echo; echo copied; /tmp/echo harm", "copied", "harm"},
		{"dropped on tmpfs", "cp /bin/busybox /scratch/echo; echo copied; /scratch/echo harm", "copied", "harm"},
		{"changed", "mkdir /x; cat /bin/busybox >/x/echo; chmod +x /x/echo; echo made; /x/echo harm", "made", "harm"},
		{"connection", "echo try; nc -w1 198.51.100.1 80 </dev/null || echo refused", "refused", "unreachable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"--tmpfs", "/scratch:exec", e.image, "sh", "-c", test.script}
			if out, _ := e.start(e.create(t, nil, args...)); !strings.Contains(out, test.never) {
				t.Errorf("unguarded, the harm should show: %q", out)
			}
			id := e.create(t, &run, args...)
			out, _ := e.start(id)
			if !strings.Contains(out, test.want) || test.never != "" && strings.Contains(out, test.never) {
				t.Errorf("output: %q\n%s", out, e.g.told())
			}
		})
	}
}

func TestDockerDeniedEntrypoint(t *testing.T) {
	e := newEngine(t)
	run := not("/bin/busybox")
	id := e.create(t, &run, e.image, "echo", "harm")
	out, code := e.start(id)
	if strings.Contains(out, "harm") || code == 0 {
		t.Errorf("exit %d: %q", code, out)
	}
	ev := e.g.wait("refusal", decided(id, event.ControlExec, denial(e.g)))
	if ev.Exec.Path != "/bin/busybox" || ev.Decision.Policy != "q" {
		t.Errorf("event: %+v %+v", ev.Exec, ev.Decision)
	}
}

func TestDockerExec(t *testing.T) {
	e := newEngine(t)
	run := busyboxOnly()
	id := e.create(t, &run, e.image, "sleep", "300")
	e.MustRun(t, "start", id)
	if out := e.MustRun(t, "exec", id, "echo", "inside"); out != "inside" {
		t.Errorf("exec: %q", out)
	}
	e.Run("exec", id, "cp", "/bin/busybox", "/tmp/echo")
	if stdout, _, code := e.Run("exec", id, "/tmp/echo", "harm"); code == 0 || strings.Contains(stdout, "harm") {
		t.Errorf("exec of a dropped program: %d %q", code, stdout)
	}
	ev := e.g.wait("drift", decided(id, event.ControlDrift, denial(e.g)))
	if !ev.Exec.Upper || ev.Exec.Path != "/tmp/echo" {
		t.Errorf("event: %+v", ev.Exec)
	}
	// A new policy holds for the running container.
	if err := e.g.Assign(id, not("/bin/busybox")); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := e.Run("exec", id, "echo", "harm"); code == 0 || strings.Contains(stdout, "harm") {
		t.Errorf("exec under the new policy: %d %q", code, stdout)
	}
}

func TestDockerRestart(t *testing.T) {
	e := newEngine(t)
	run := busyboxOnly()
	id := e.create(t, &run, e.image, "sh", "-c", "echo start; [ -x /tmp/echo ] && /tmp/echo harm; cp /bin/busybox /tmp/echo; echo end")
	for range 2 {
		if out, _ := e.start(id); !strings.Contains(out, "start") || strings.Contains(out, "harm") {
			t.Errorf("output: %q", out)
		}
	}
	e.g.wait("drift", decided(id, event.ControlDrift, denial(e.g)))
}

// Containers of a build run what the build just made: they stand under a
// policy of their own, assigned when the engine tells of them.
func TestDockerBuild(t *testing.T) {
	e := newEngine(t)
	if err := e.g.SetDefault(busyboxOnly()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dockerfile := "FROM " + e.image + "\nRUN mkdir /made && cp /bin/busybox /made/cat && echo built | /made/cat >/proof\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	build := func(name string) int {
		_, _, code := e.Run("build", "--no-cache", "--network=none", "--cgroup-parent=/"+filepath.Base(e.g.parent), "-t", name, dir)
		return code
	}
	if code := build("bw-refused"); code == 0 {
		t.Error("a build under the containers' policy went through")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	assigned := e.assignCreated(ctx, t, policy.Run{})
	if code := build("bw-built"); code != 0 {
		t.Errorf("build: exit %d\n%s", code, e.g.told())
	}
	t.Cleanup(func() { e.Run("image", "rm", "-f", "bw-built") })
	if <-assigned == "" {
		t.Error("the engine told of no container")
	}
	run := busyboxOnly()
	run.Exec.Allow = append(run.Exec.Allow, only("/made/cat").Exec.Allow...)
	id := e.create(t, &run, "bw-built", "/made/cat", "/proof")
	if out, _ := e.start(id); !strings.Contains(out, "built") {
		t.Errorf("what was built is in the image now, but: %q\n%s", out, e.g.told())
	}
}

// assignCreated follows the engine's events, as the agent does.
func (e *engine) assignCreated(ctx context.Context, t *testing.T, run policy.Run) <-chan string {
	c := e.Command(ctx, "events", "--filter", "event=create", "--filter", "type=container", "--since", fmt.Sprint(time.Now().Unix()-60), "--format", "{{.ID}}")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 64)
	go func() {
		defer func() { _ = c.Wait() }()
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if err := e.g.Assign(sc.Text(), run); err == nil {
				select {
				case first <- sc.Text():
				default:
				}
			}
		}
	}()
	return first
}

// The daemon's own work inside containers goes on under the strictest policy.
func TestDockerSetUpUnderStrictDefault(t *testing.T) {
	e := newEngine(t)
	if err := e.g.SetDefault(busyboxOnly()); err != nil {
		t.Fatal(err)
	}
	id := e.create(t, nil, "--read-only", e.image, "echo", "ran")
	if out, code := e.start(id); code != 0 || !strings.Contains(out, "ran") {
		t.Errorf("exit %d: %q\n%s", code, out, e.g.told())
	}
}

// The engine's own init, which it mounts from the host, runs under an
// allow-list that cannot know it; what it starts is judged.
func TestDockerInit(t *testing.T) {
	e := newEngine(t)
	run := busyboxOnly()
	if out, _ := e.start(e.create(t, &run, "--init", e.image, "echo", "harm")); strings.Contains(out, "harm") {
		t.Errorf("before the init programs were found: %q", out)
	}
	if err := e.g.SetEngineSockets(nil); err != nil {
		t.Fatal(err)
	}
	id := e.create(t, &run, "--init", e.image, "sh", "-c", "echo ran; cp /sbin/docker-init /tmp/init; /tmp/init -- echo harm")
	out, _ := e.start(id)
	if !strings.Contains(out, "ran") || strings.Contains(out, "harm") {
		t.Errorf("output: %q\n%s", out, e.g.told())
	}
	denied := not("/bin/busybox")
	if out, _ := e.start(e.create(t, &denied, "--init", e.image, "echo", "harm")); strings.Contains(out, "harm") {
		t.Errorf("init started what policy denies: %q", out)
	}
	itself := not("/sbin/docker-init")
	if out, _ := e.start(e.create(t, &itself, "--init", e.image, "echo", "harm")); strings.Contains(out, "harm") {
		t.Errorf("an init that policy denies ran: %q", out)
	}
}
