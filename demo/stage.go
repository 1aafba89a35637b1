package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// The address at which the demo's listeners wait. It is one of those that are
// reserved for documentation (RFC 5737) and exists only inside the demo
// container's own network namespace: nothing leaves the machine.
const peer = "192.0.2.10"

// stage is everything the story needs around it: an engine of its own, folders,
// witnesses. Whatever it made is gone after close.
type stage struct {
	dir     string // scratch folder
	binary  string // bin/breakwater
	docker  *testenv.Docker
	witness string // shared with the container: what attacks leave behind
	cgroups string // a cgroup hierarchy without controllers, to escape through
	cgroup  string // what the engine's containers stand below
	closers []func()
}

func newStage(ctx context.Context, binary string) (*stage, error) {
	dir, err := os.MkdirTemp("", "breakwater-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, binary: binary, witness: filepath.Join(dir, "witness"), cgroups: filepath.Join(dir, "cgroups")}
	s.later(func() { os.RemoveAll(dir) })
	for _, d := range []string{s.witness, s.cgroups} {
		if err := os.Mkdir(d, 0o777); err != nil {
			return s, err
		}
	}
	// A named hierarchy has a release_agent like any other, but no process will
	// ever be released from it: a successful attack harms nothing.
	if err := unix.Mount("none", s.cgroups, "cgroup", 0, "none,name="+filepath.Base(dir)); err != nil {
		return s, fmt.Errorf("mount a scratch cgroup hierarchy: %w", err)
	}
	s.later(func() { _ = unix.Unmount(s.cgroups, unix.MNT_DETACH) })
	// The engine's containers stand below a cgroup of their own, and Breakwater
	// guards only those: whatever else this host runs is left alone.
	if err := s.makeCgroup(); err != nil {
		return s, err
	}
	s.docker, err = testenv.StartDocker(testenv.WithConfig(fmt.Appendf(nil, "{\"cgroup-parent\": %q}\n", "/"+filepath.Base(s.cgroup))))
	if err != nil {
		return s, err
	}
	s.later(s.docker.Close)
	if _, err := s.docker.ImportBusybox(ctx); err != nil {
		return s, err
	}
	attack := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "attack"), "./demo/attack")
	attack.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := attack.CombinedOutput(); err != nil {
		return s, fmt.Errorf("build the villain: %w\n%s", err, out)
	}
	return s, nil
}

func (s *stage) makeCgroup() error {
	hierarchy, err := sensor.DetectHierarchy()
	if err != nil {
		return err
	}
	name := filepath.Base(s.dir)
	s.cgroup = filepath.Join(hierarchy.Root, name)
	if err := os.Mkdir(s.cgroup, 0o755); err != nil {
		return fmt.Errorf("a cgroup for the demo's containers: %w", err)
	}
	s.later(func() { s.warn(removeCgroups(name)) })
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
	return poll(context.Background(), 10*time.Second, "the demo's cgroups are removed", func() (bool, error) {
		gone := true
		for _, dir := range mounted {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				gone = false
			}
		}
		return gone, nil
	})
}

func (s *stage) later(f func()) { s.closers = append(s.closers, f) }

func (s *stage) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// lodash is an old version with known vulnerabilities, and the one that fixes
// them: GHSA-jf85-cpcp-j695, GHSA-35jh-r3h4-6jhm.
const (
	lodashOld   = "4.17.10"
	lodashFixed = "4.17.21"
)

// buildImage builds the demo's service with one version of lodash in it.
func (s *stage) buildImage(ctx context.Context, name, lodash string) error {
	folder := filepath.Join(s.dir, "image")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	dockerfile := "FROM bw-busybox\nCOPY attack /usr/bin/attack\nCOPY package.json /app/node_modules/lodash/package.json\nUSER 10001\nCMD [\"attack\", \"wait\"]\n"
	attack, err := os.ReadFile(filepath.Join(s.dir, "attack"))
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(`{"name": "lodash", "version": %q, "license": "MIT"}`, lodash)
	for file, content := range map[string]string{"Dockerfile": dockerfile, "package.json": manifest, "attack": string(attack)} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o755); err != nil {
			return err
		}
	}
	_, err = s.engine(ctx, "build", "-q", "--network=none", "-t", name, folder)
	return err
}

// engine runs the docker client and returns all that it printed.
func (s *stage) engine(ctx context.Context, args ...string) (string, error) {
	out, err := s.docker.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// left says whether an attack left its mark.
func (s *stage) left(mark string) bool {
	_, err := os.Stat(filepath.Join(s.witness, mark))
	return err == nil
}

// listener waits inside the container's network namespace and counts who came.
type listener struct {
	net.Listener
	connections atomic.Int64
	received    atomic.Int64
}

// listen opens a listener at peer:port in the namespace of a process. Each
// caller gets the command, as an intruder's console would send it.
func listen(pid, port int, command string) (*listener, error) {
	opened := make(chan error, 1)
	l := &listener{}
	go func() {
		// The thread is given up with the goroutine: it must not carry another
		// goroutine into the container's network.
		runtime.LockOSThread()
		opened <- l.open(pid, port)
	}()
	if err := <-opened; err != nil {
		return nil, err
	}
	go l.serve(command)
	return l, nil
}

func (l *listener) open(pid, port int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the container's network: %w", err)
	}
	var lc net.ListenConfig
	l.Listener, err = lc.Listen(context.Background(), "tcp", net.JoinHostPort(peer, strconv.Itoa(port)))
	return err
}

func (l *listener) serve(command string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		l.connections.Add(1)
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.WriteString(conn, command); err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, conn) // how it ended does not matter, only what came
			l.received.Add(n)
		}()
	}
}

// guard starts the gate and `breakwater up`, and waits until both guard the
// engine. It returns the console's address and the first password.
func (s *stage) guard(ctx context.Context, observe bool) (url, password string, err error) {
	data, pin := filepath.Join(s.dir, "data"), filepath.Join("/sys/fs/bpf", filepath.Base(s.dir))
	plugin := "/run/docker/plugins/" + filepath.Base(s.dir) + ".sock"
	if err := os.MkdirAll(data, 0o750); err != nil {
		return "", "", err
	}
	mirror, err := filepath.Abs("internal/intel/testdata/mirror")
	if err != nil {
		return "", "", err
	}
	if err := s.breakwater(ctx, "intel", "update", "--data", data, "--source", "file://"+mirror); err != nil {
		return "", "", err
	}
	gate := "no"
	if !observe {
		gate = "yes"
		if err := s.startGate(data, plugin); err != nil {
			return "", "", err
		}
	}
	s.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s.warn(s.breakwater(ctx, "unload", "--pin", pin))
	})
	args := []string{"up", "--data", data, "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0", "--engine", s.docker.Socket,
		"--pin", pin, "--under", s.cgroup, "--gate", gate, "--gate-config", s.docker.ConfigFile, "--gate-socket", plugin}
	if observe {
		args = append(args, "--observe")
	}
	found := make(chan string, 1)
	ended, err := s.start("breakwater.log", found, args...)
	if err != nil {
		return "", "", err
	}
	select {
	case url = <-found:
	case <-ended:
		return "", "", errors.New("breakwater up ended: " + s.logTail())
	case <-time.After(60 * time.Second):
		return "", "", errors.New("breakwater up is not ready after a minute: " + s.logTail())
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
	raw, err := os.ReadFile(filepath.Join(data, "first-password"))
	return url, strings.TrimSpace(string(raw)), err
}

// startGate runs the gate as a process of the demo's own, so that it can end it.
func (s *stage) startGate(data, plugin string) error {
	if _, err := s.start("gate.log", nil, "gate", "run", "--data", data, "--engine", s.docker.Socket, "--plugin-socket", plugin); err != nil {
		return err
	}
	s.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s.warn(s.breakwater(ctx, "gate", "uninstall", "--yes", "--data", data, "--engine", s.docker.Socket, "--plugin-socket", plugin))
	})
	return nil
}

// start starts a breakwater command with its output in a log, and ends it when
// the stage is cleared. ready gets the console's address once the command says
// that it guards.
func (s *stage) start(logName string, ready chan<- string, args ...string) (ended <-chan struct{}, err error) {
	log, err := os.Create(filepath.Join(s.dir, logName))
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
	s.later(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
	})
	return done, nil
}

func (s *stage) breakwater(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, s.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("breakwater %s: %w: %s", strings.Join(args[:2], " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// warn tells of trouble while clearing up: the story is over, but something of
// it may be left.
func (s *stage) warn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
}

func (s *stage) logTail() string {
	raw, err := os.ReadFile(filepath.Join(s.dir, "breakwater.log"))
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-2000):])
}
