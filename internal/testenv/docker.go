package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Docker is a private Docker engine: a dockerd and a containerd of its own,
// with own sockets and data, beside whatever engine the machine runs. Its
// containers stand in the machine's cgroup hierarchies as docker/<id>, like
// any other engine's.
//
// It has no bridge network: run containers with --network=none or =host.
type Docker struct {
	// Dir holds everything the engine has; removed when the engine stops.
	Dir string
	// Socket is the path of the engine's API socket.
	Socket string
	// ConfigFile is the engine's daemon.json. SIGHUP makes the engine read it.
	ConfigFile string
	// PIDFile holds the dockerd's process id.
	PIDFile string
	// LogFile is what dockerd printed.
	LogFile string

	args    []string
	daemon  *exec.Cmd
	exited  chan struct{} // closed when daemon has been waited for
	warden  *os.File      // its end of file makes the warden process clean up
	wardenC *exec.Cmd
}

// DockerOption changes how an engine is started.
type DockerOption func(*Docker) error

// WithAuthPlugin starts the engine with authorization plugins, in daemon.json,
// where a reload can change them.
func WithAuthPlugin(names ...string) DockerOption {
	return func(d *Docker) error {
		data, err := json.Marshal(map[string]any{"authorization-plugins": names})
		if err != nil {
			return err
		}
		return os.WriteFile(d.ConfigFile, data, 0o600)
	}
}

// WithConfig starts the engine with this daemon.json; nil starts it without one.
func WithConfig(data []byte) DockerOption {
	return func(d *Docker) error {
		if data == nil {
			return os.Remove(d.ConfigFile)
		}
		return os.WriteFile(d.ConfigFile, data, 0o600)
	}
}

// WithArgs adds arguments to dockerd's command line.
func WithArgs(args ...string) DockerOption {
	return func(d *Docker) error {
		d.args = append(d.args, args...)
		return nil
	}
}

// sharedDocker is the one engine of this test binary. It lives as long as the
// process: the warden stops it when the process ends, however it ends.
var sharedDocker struct {
	once sync.Once
	d    *Docker
	err  error
}

// NeedDocker gives the engine that all tests of this test binary share,
// starting it first if need be. Tests must not change its configuration, and
// remove the containers that they made; NewDocker gives an engine that may be
// treated roughly.
func NeedDocker(t testing.TB) *Docker {
	t.Helper()
	needDockerPrograms(t)
	sharedDocker.once.Do(func() {
		sharedDocker.d, sharedDocker.err = startDocker()
	})
	if sharedDocker.err != nil {
		Missing(t, "a private Docker engine does not start: %v", sharedDocker.err)
	}
	return sharedDocker.d
}

// NewDocker starts an engine for this test alone and stops it with the test.
func NewDocker(t testing.TB, options ...DockerOption) *Docker {
	t.Helper()
	needDockerPrograms(t)
	d, err := startDocker(options...)
	if err != nil {
		Missing(t, "a private Docker engine does not start: %v", err)
	}
	t.Cleanup(d.close)
	return d
}

func needDockerPrograms(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	for _, program := range []string{"dockerd", "containerd", "runc", "docker", "busybox"} {
		if _, err := lookPath(program); err != nil {
			Missing(t, "needs a Docker engine (packages docker.io and busybox-static): %v", err)
		}
	}
}

// lookPath also looks where Debian puts daemons, which a user's PATH may lack.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func startDocker(options ...DockerOption) (*Docker, error) {
	// Not t.TempDir: unix socket paths are at most 107 bytes long.
	dir, err := os.MkdirTemp("/tmp", "bwd")
	if err != nil {
		return nil, err
	}
	d := &Docker{
		Dir:        dir,
		Socket:     filepath.Join(dir, "docker.sock"),
		ConfigFile: filepath.Join(dir, "daemon.json"),
		PIDFile:    filepath.Join(dir, "dockerd.pid"),
		LogFile:    filepath.Join(dir, "dockerd.log"),
	}
	if err := d.startWarden(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := d.start(options); err != nil {
		tail := d.LogTail()
		d.close()
		return nil, fmt.Errorf("%w; the end of its log:\n%s", err, tail)
	}
	return d, nil
}

func (d *Docker) start(options []DockerOption) error {
	if err := os.WriteFile(d.ConfigFile, []byte("{}\n"), 0o600); err != nil {
		return err
	}
	for _, o := range options {
		if err := o(d); err != nil {
			return err
		}
	}
	if err := d.startContainerd(); err != nil {
		return err
	}
	return d.Start()
}

// wardenScript waits for the end of the process that holds its standard input
// and then takes the engine down: containers first, so that no shim is left.
const wardenScript = `
trap '' INT TERM HUP
cat >/dev/null
export DOCKER_HOST="unix://$1/docker.sock" DOCKER_CONFIG="$1/client"
[ -s "$1/dockerd.pid" ] && timeout 10 sh -c 'ids=$(docker ps -aq); [ -z "$ids" ] || docker rm -f $ids' >/dev/null 2>&1
ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$2"; }
for name in dockerd containerd; do
	pid=$(cat "$1/$name.pid" 2>/dev/null) || continue
	ours "$pid" "$1" || continue
	kill -TERM "$pid"
	n=0
	while ours "$pid" "$1" && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
	ours "$pid" "$1" && kill -KILL "$pid"
done
for shim in $(grep -lsF "$1/containerd.sock" /proc/[0-9]*/cmdline); do
	pid=${shim#/proc/}; pid=${pid%/cmdline}
	[ "$(cat /proc/$pid/comm 2>/dev/null)" = containerd-shim ] && kill -KILL "$pid"
done
awk -v d="$1/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m"; done
rm -rf "$1"
`

// startWarden starts the process that cleans up after the engine when this
// process ends, also when it is killed.
func (d *Docker) startWarden() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", wardenScript, "breakwater-test-warden", d.Dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return fmt.Errorf("start warden: %w", err)
	}
	d.warden, d.wardenC = w, cmd
	return nil
}

// close stops the engine and waits until nothing of it is left.
func (d *Docker) close() {
	d.warden.Close()
	// A warden that fails leaves a folder in /tmp behind and nothing else.
	_ = d.wardenC.Wait()
}

const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "%[1]s/containerd.sock"
`

// startContainerd starts a containerd of our own: dockerd would otherwise take
// the machine's, if one runs.
func (d *Docker) startContainerd() error {
	config := filepath.Join(d.Dir, "containerd.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, d.Dir), 0o600); err != nil {
		return err
	}
	cmd, exited, err := d.spawn("containerd", "--config", config)
	if err != nil {
		return err
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := os.WriteFile(filepath.Join(d.Dir, "containerd.pid"), []byte(pid), 0o600); err != nil {
		return err
	}
	return waitFor(exited, "containerd", func() bool {
		_, err := os.Stat(filepath.Join(d.Dir, "containerd.sock"))
		return err == nil
	})
}

// Start starts the engine's dockerd; after Stop, or Kill, a second time.
func (d *Docker) Start() error {
	args := []string{
		"--host=unix://" + d.Socket, "--containerd=" + filepath.Join(d.Dir, "containerd.sock"),
		"--data-root=" + filepath.Join(d.Dir, "data"), "--exec-root=" + filepath.Join(d.Dir, "exec"),
		"--pidfile=" + d.PIDFile, "--shutdown-timeout=1",
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
	}
	if _, err := os.Stat(d.ConfigFile); err == nil {
		args = append(args, "--config-file="+d.ConfigFile)
	}
	cmd, exited, err := d.spawn("dockerd", append(args, d.args...)...)
	if err != nil {
		return err
	}
	d.daemon, d.exited = cmd, exited
	return waitFor(exited, "dockerd", func() bool {
		_, _, code := d.Run("version")
		return code == 0
	})
}

// Stop ends dockerd as an administrator would; the engine's data stays.
func (d *Docker) Stop() error { return d.end(syscall.SIGTERM) }

// Kill ends dockerd with SIGKILL; its containers go on running.
func (d *Docker) Kill() error { return d.end(syscall.SIGKILL) }

func (d *Docker) end(sig syscall.Signal) error {
	if err := d.daemon.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("dockerd (pid %d) did not end on %v", d.daemon.Process.Pid, sig)
	}
}

// Reload makes dockerd read its configuration file again (SIGHUP).
func (d *Docker) Reload() error { return d.daemon.Process.Signal(syscall.SIGHUP) }

// PID is dockerd's process id.
func (d *Docker) PID() int { return d.daemon.Process.Pid }

// spawn starts a daemon in a process group of its own, so that an interrupt
// on the terminal reaches the test and not the engine; its output goes to
// <name>.log.
func (d *Docker) spawn(name string, args ...string) (*exec.Cmd, chan struct{}, error) {
	path, err := lookPath(name)
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(filepath.Join(d.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		// How it ended does not matter: whoever waits asks that it has.
		_ = cmd.Wait()
	}()
	return cmd, exited, nil
}

// waitFor polls until ready, the process ended, or a minute is over.
func waitFor(exited <-chan struct{}, name string, ready func() bool) error {
	deadline := time.After(time.Minute)
	for {
		if ready() {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended while it started", name)
		case <-deadline:
			return fmt.Errorf("%s is not ready after a minute", name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LogTail is the end of what dockerd printed.
func (d *Docker) LogTail() string {
	data, err := os.ReadFile(d.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

// Command prepares the docker client for this engine, without a user's own
// configuration and with the builder that needs no extra program.
func (d *Docker) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(),
		"DOCKER_HOST=unix://"+d.Socket, "DOCKER_CONFIG="+filepath.Join(d.Dir, "client"),
		"DOCKER_BUILDKIT=0", "DOCKER_CONTEXT=", "DOCKER_TLS_VERIFY=")
	return cmd
}

// Run runs the docker client and gives what it printed and its exit code (-1
// when it could not be run or took more than two minutes).
func (d *Docker) Run(args ...string) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return output(d.Command(ctx, args...))
}

func output(cmd *exec.Cmd) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String(), errs.String(), exit.ExitCode()
	case err != nil:
		return out.String(), errs.String() + err.Error(), -1
	}
	return out.String(), errs.String(), 0
}

// MustRun is Run that fails the test on any exit code but 0, and gives what
// was printed without the white space around it.
func (d *Docker) MustRun(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := d.Run(args...)
	if code != 0 {
		t.Fatalf("docker %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Remove removes a container when the test ends.
func (d *Docker) Remove(t testing.TB, container string) {
	t.Cleanup(func() { d.Run("rm", "-f", "-v", container) })
}
