// Package stage is what programs that show Breakwater against real attacks need
// around them: an engine of its own whose containers stand below a cgroup of
// their own, `breakwater up` in front of it, the server as a person reaches it,
// and witnesses that Breakwater does not control. Whatever it made is gone after
// Close.
package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// Stage is the engine with its folders. Its methods are for one goroutine,
// except Engine and Left.
type Stage struct {
	Dir     string // scratch folder
	Docker  *testenv.Docker
	Witness string // shared with containers: what attacks leave behind
	Cgroups string // a cgroup hierarchy without controllers, to escape through

	binary  string // breakwater
	cgroup  string // what the engine's containers stand below
	closers []func()
}

// Settings of Guard.
type Settings struct {
	Observe bool   // only record
	Gate    bool   // put the gate before the engine, too
	Intel   string // an intelligence mirror to build a bundle from; "": none
}

// New makes the stage; name is part of the names of what it makes on the host.
func New(ctx context.Context, name, binary string) (*Stage, error) {
	dir, err := os.MkdirTemp("", "breakwater-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &Stage{Dir: dir, binary: binary, Witness: filepath.Join(dir, "witness"), Cgroups: filepath.Join(dir, "cgroups")}
	s.Later(func() { os.RemoveAll(dir) })
	if err := s.setUp(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) setUp(ctx context.Context) (err error) {
	for _, d := range []string{s.Witness, s.Cgroups} {
		if err := os.Mkdir(d, 0o777); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.Witness, 0o777); err != nil { // whatever the umask is
		return err
	}
	// A named hierarchy has a release_agent like any other, but no process will
	// ever be released from it: a successful attack harms nothing.
	if err := unix.Mount("none", s.Cgroups, "cgroup", 0, "none,name="+filepath.Base(s.Dir)); err != nil {
		return fmt.Errorf("mount a scratch cgroup hierarchy: %w", err)
	}
	s.Later(func() { _ = unix.Unmount(s.Cgroups, unix.MNT_DETACH) })
	// The engine's containers stand below a cgroup of their own, and Breakwater
	// guards only those: whatever else this host runs is left alone.
	if err := s.makeCgroup(); err != nil {
		return err
	}
	s.Docker, err = testenv.StartDocker(testenv.WithConfig(fmt.Appendf(nil, "{\"cgroup-parent\": %q}\n", "/"+filepath.Base(s.cgroup))))
	if err != nil {
		return err
	}
	s.Later(s.Docker.Close)
	_, err = s.Docker.ImportBusybox(ctx)
	return err
}

// Program builds a static program of this project into the scratch folder and
// gives its path.
func (s *Stage) Program(ctx context.Context, name, pkg string) (string, error) {
	path := filepath.Join(s.Dir, name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

func (s *Stage) makeCgroup() error {
	hierarchy, err := sensor.DetectHierarchy()
	if err != nil {
		return err
	}
	name := filepath.Base(s.Dir)
	s.cgroup = filepath.Join(hierarchy.Root, name)
	if err := os.Mkdir(s.cgroup, 0o755); err != nil {
		return fmt.Errorf("a cgroup for the stage's containers: %w", err)
	}
	s.Later(func() { s.warn(removeCgroups(name)) })
	return nil
}

// removeCgroups removes a cgroup from every hierarchy: an engine on a host with
// v1 hierarchies makes it in each. The last container's cgroup goes a moment
// after its container, so it is tried for a while.
func removeCgroups(name string) error {
	mounted, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		return err
	}
	mounted = append(mounted, "/sys/fs/cgroup/"+name)
	return Poll(context.Background(), 10*time.Second, "the stage's cgroups are removed", func() (bool, error) {
		gone := true
		for _, dir := range mounted {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				gone = false
			}
		}
		return gone, nil
	})
}

// Later runs f when the stage is closed, before whatever was there earlier.
func (s *Stage) Later(f func()) { s.closers = append(s.closers, f) }

// Close takes everything down.
func (s *Stage) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

// Build builds an image from a Dockerfile and the files beside it.
func (s *Stage) Build(ctx context.Context, name, dockerfile string, files map[string][]byte) error {
	folder, err := os.MkdirTemp(s.Dir, "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o755); err != nil {
			return err
		}
	}
	_, err = s.Engine(ctx, "build", "-q", "--network=none", "-t", name, folder)
	return err
}

// Engine runs the docker client and returns all that it printed.
func (s *Stage) Engine(ctx context.Context, args ...string) (string, error) {
	out, err := s.Docker.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// PID is the first process of a container.
func (s *Stage) PID(ctx context.Context, container string) (int, error) {
	out, err := s.Engine(ctx, "inspect", "--format={{.State.Pid}}", container)
	if err != nil {
		return 0, err
	}
	var pid int
	if _, err := fmt.Sscan(out, &pid); err != nil || pid == 0 {
		return 0, fmt.Errorf("container %s has no process: %s", container, out)
	}
	return pid, nil
}

// Left says whether an attack left its mark.
func (s *Stage) Left(mark string) bool {
	_, err := os.Stat(filepath.Join(s.Witness, mark))
	return err == nil
}

// Guard starts `breakwater up`, and the gate if that is wanted, waits until they
// guard the engine, and gives the console with the first password.
func (s *Stage) Guard(ctx context.Context, set Settings) (c *Console, password string, err error) {
	data, pin := filepath.Join(s.Dir, "data"), filepath.Join("/sys/fs/bpf", filepath.Base(s.Dir))
	plugin := "/run/docker/plugins/" + filepath.Base(s.Dir) + ".sock"
	if err := os.MkdirAll(data, 0o750); err != nil {
		return nil, "", err
	}
	if set.Intel != "" {
		if err := s.breakwater(ctx, "intel", "update", "--data", data, "--source", "file://"+set.Intel); err != nil {
			return nil, "", err
		}
	}
	gate := "no"
	if set.Gate {
		gate = "yes"
		if err := s.startGate(data, plugin); err != nil {
			return nil, "", err
		}
	}
	s.Later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s.warn(s.breakwater(ctx, "unload", "--pin", pin))
	})
	args := []string{"up", "--data", data, "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0", "--engine", s.Docker.Socket,
		"--pin", pin, "--under", s.cgroup, "--gate", gate, "--gate-config", s.Docker.ConfigFile, "--gate-socket", plugin}
	if set.Observe {
		args = append(args, "--observe")
	}
	found := make(chan string, 1)
	ended, err := s.start("breakwater.log", found, args...)
	if err != nil {
		return nil, "", err
	}
	var url string
	select {
	case url = <-found:
	case <-ended:
		return nil, "", errors.New("breakwater up ended: " + s.logTail())
	case <-time.After(60 * time.Second):
		return nil, "", errors.New("breakwater up is not ready after a minute: " + s.logTail())
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	raw, err := os.ReadFile(filepath.Join(data, "first-password"))
	if err != nil {
		return nil, "", err
	}
	password = strings.TrimSpace(string(raw))
	c, err = Login(ctx, url, password)
	return c, password, err
}

// startGate runs the gate as a process of the stage's own, so that it can end it.
func (s *Stage) startGate(data, plugin string) error {
	if _, err := s.start("gate.log", nil, "gate", "run", "--data", data, "--engine", s.Docker.Socket, "--plugin-socket", plugin); err != nil {
		return err
	}
	s.Later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s.warn(s.breakwater(ctx, "gate", "uninstall", "--yes", "--data", data, "--engine", s.Docker.Socket, "--plugin-socket", plugin))
	})
	return nil
}

// start starts a breakwater command with its output in a log, and ends it when
// the stage is cleared. ready gets the console's address once the command says
// that it guards.
func (s *Stage) start(logName string, ready chan<- string, args ...string) (ended <-chan struct{}, err error) {
	log, err := os.Create(filepath.Join(s.Dir, logName))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.binary, args...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer log.Close()
		url := ""
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			line := scanner.Text()
			fmt.Fprintln(log, line)
			if u, ok := strings.CutPrefix(line, "Console:"); ok {
				url = strings.TrimSpace(u)
			}
			if ready != nil && strings.HasPrefix(line, "Guarding.") {
				ready <- url
			}
		}
		_ = cmd.Wait() // it ends by our signal, or its log says why
	}()
	s.Later(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
	})
	return done, nil
}

func (s *Stage) breakwater(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, s.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("breakwater %s: %w: %s", strings.Join(args[:2], " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// warn tells of trouble while clearing up: the story is over, but something of
// it may be left.
func (s *Stage) warn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "clearing up:", err)
	}
}

func (s *Stage) logTail() string {
	raw, err := os.ReadFile(filepath.Join(s.Dir, "breakwater.log"))
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-2000):])
}
