package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// wholeHost is this machine as the whole product sees it in a test: an engine
// of its own whose containers stand below a cgroup of their own, and folders of
// its own for state and pins.
type wholeHost struct {
	t       *testing.T
	engine  *testenv.Docker
	image   string
	data    string // data folder
	server  string // the server's data folder
	pin     string
	under   string // cgroup folder of the engine's containers
	plugin  string // the gate's socket
	witness string // folder that containers leave marks in, as /w
	up      *program
}

// newWholeHost makes the machine; nothing of Breakwater runs yet.
func newWholeHost(t *testing.T) *wholeHost {
	t.Helper()
	testenv.NeedRoot(t)
	hierarchy, err := sensor.DetectHierarchy()
	if err != nil {
		testenv.Missing(t, "a cgroup hierarchy: %v", err)
	}
	dir, err := os.MkdirTemp("/run", "breakwater-test-")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(dir)
	data := filepath.Join(dir, "data")
	h := &wholeHost{t: t, data: data, server: data, pin: filepath.Join(dir, "bpf"), under: filepath.Join(hierarchy.Root, name),
		plugin: "/run/docker/plugins/" + name + ".sock", witness: filepath.Join(dir, "witness")}
	if err := os.Mkdir(h.under, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.remove(dir) })
	if err := os.Mkdir(h.witness, 0o777); err != nil {
		t.Fatal(err)
	}
	h.engine = testenv.NewDocker(t, testenv.WithConfig(fmt.Appendf(nil, "{\"cgroup-parent\": %q}\n", "/"+name)))
	h.image = h.engine.BusyboxImage(t)
	t.Cleanup(h.end)
	return h
}

// end ends what still runs, the last first: Breakwater, its gate, containers.
func (h *wholeHost) end() {
	if h.up != nil {
		h.up.signal(syscall.SIGTERM)
		h.up.wait(30 * time.Second)
		if h.t.Failed() {
			h.t.Logf("up said:\n%s", h.up.said())
		}
	}
	if _, errs, code := h.run("gate", "status", "--engine="+h.engine.Socket, "--plugin-socket="+h.plugin); code == exitOK {
		if _, errs, code := h.run("gate", "uninstall", "--yes", "--engine="+h.engine.Socket, "--plugin-socket="+h.plugin); code != exitOK {
			h.t.Errorf("gate uninstall: %d %s", code, errs)
		}
	} else if strings.Contains(errs, "panic") {
		h.t.Error(errs)
	}
	h.endGate()
	if _, errs, code := h.run("unload", "--pin="+h.pin); code != exitOK {
		h.t.Errorf("unload: %d %s", code, errs)
	}
	if ids, _, _ := h.engine.Run("ps", "-aq"); strings.TrimSpace(ids) != "" {
		h.engine.Run(append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
	}
}

// gateFlags are those that gate commands know the engine by.
func (h *wholeHost) gateFlags() []string {
	return []string{"--engine=" + h.engine.Socket, "--plugin-socket=" + h.plugin, "--data=" + h.data}
}

func (h *wholeHost) endGate() {
	out, _, _ := h.run("gate", "status", "--format=json", "--engine="+h.engine.Socket, "--plugin-socket="+h.plugin)
	var st gateState
	if json.Unmarshal([]byte(out), &st) == nil && st.Gate != nil && st.Gate.Supervisor > 1 {
		_ = syscall.Kill(st.Gate.Supervisor, syscall.SIGTERM)
	}
}

func (h *wholeHost) remove(dir string) {
	_ = os.Remove(h.plugin)
	_ = os.RemoveAll(dir)
	for deadline := time.Now().Add(10 * time.Second); !h.removeCgroups() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond) // the engine's last cgroup goes a moment after its container
	}
}

// removeCgroups removes the containers' cgroup from every hierarchy; v1 hosts
// have several.
func (h *wholeHost) removeCgroups() bool {
	name := filepath.Base(h.under)
	all, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	done := err == nil
	for _, dir := range append(all, "/sys/fs/cgroup/"+name) {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			done = false
		}
	}
	return done
}

// run runs a command to its end.
func (h *wholeHost) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "breakwater", append(args, "--data="+h.data)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// upArgs are the flags that keep `up` to this test's folders and engine.
func (h *wholeHost) upArgs(more ...string) []string {
	return append(append([]string{"up", "--data=" + h.data, "--listen=127.0.0.1:0", "--bus-listen=127.0.0.1:0"}, h.hostArgs()...), more...)
}

// hostArgs are those that agents share.
func (h *wholeHost) hostArgs() []string {
	return []string{"--engine=" + h.engine.Socket, "--pin=" + h.pin, "--under=" + h.under,
		"--gate-config=" + h.engine.ConfigFile, "--gate-socket=" + h.plugin, "--host-name=testhost"}
}

// start starts `breakwater up` and waits until it guards.
func (h *wholeHost) start(more ...string) {
	h.t.Helper()
	h.up = startProgram(h.t, h.upArgs(more...)...)
	h.up.waitFor(h.t, "Guarding. Ctrl-C")
}

// kill ends `up` as a crash does.
func (h *wholeHost) kill() {
	h.t.Helper()
	h.up.signal(syscall.SIGKILL)
	h.up.wait(10 * time.Second)
}

// api asks the server of this host.
func (h *wholeHost) api(method, path string, body, result any) error {
	c, err := clientFlags{}.localClient(h.server)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	p, query, _ := strings.Cut(path, "?")
	c.base.RawQuery = query
	return c.call(context.Background(), method, p, body, result)
}

// incidents lists what happened, the oldest first.
func (h *wholeHost) incidents(query url.Values) []store.Incident {
	h.t.Helper()
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "500")
	var list struct{ Items []store.Incident }
	if err := h.api(http.MethodGet, "/api/v1/incidents?"+query.Encode(), nil, &list); err != nil {
		h.t.Fatal(err)
	}
	return list.Items
}

// incidentsOf waits until there are at least so many incidents of a container
// and gives them.
func (h *wholeHost) incidentsOf(container string, least int, query url.Values) []store.Incident {
	h.t.Helper()
	if query == nil {
		query = url.Values{}
	}
	query.Set("container", container)
	var got []store.Incident
	h.until(fmt.Sprintf("there are %d incidents of %s (%v)", least, container, query), func() bool {
		got = h.incidents(query)
		return len(got) >= least
	})
	return got
}

// status is what the agent last told of this host.
func (h *wholeHost) status() event.HostStatus {
	h.t.Helper()
	var hosts struct{ Items []store.Agent }
	if err := h.api(http.MethodGet, "/api/v1/hosts", nil, &hosts); err != nil {
		h.t.Fatal(err)
	}
	for _, a := range hosts.Items {
		if a.Status != nil && a.Host == "testhost" {
			return *a.Status
		}
	}
	return event.HostStatus{}
}

func (h *wholeHost) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited too long until %s", what)
		}
	}
}

// box starts a container that waits, with the witness folder at /w.
func (h *wholeHost) box(name string, more ...string) {
	h.t.Helper()
	args := append([]string{"run", "-d", "--name", name, "--network=none", "-v", h.witness + ":/w"}, more...)
	h.engine.MustRun(h.t, append(args, h.image, "sleep", "600")...)
}

// drift writes a program inside a container and runs it; its mark says that it
// ran. Each mark is a program of its own: repetitions are told in one incident.
func (h *wholeHost) drift(container, mark string) {
	h.t.Helper()
	h.engine.Run("exec", container, "sh", "-c", fmt.Sprintf("mkdir -p /tmp/%[1]s && cp /bin/busybox /tmp/%[1]s/touch && /tmp/%[1]s/touch /w/%[1]s", mark))
}

// marked says whether an attack left its mark.
func (h *wholeHost) marked(mark string) bool {
	_, err := os.Stat(filepath.Join(h.witness, mark))
	return err == nil
}

// apply puts policies in force and waits until the agent acknowledges them.
func (h *wholeHost) apply(yaml string) uint64 {
	h.t.Helper()
	var list struct{ Generation uint64 }
	if err := h.api(http.MethodPost, "/api/v1/policies", []byte(yaml), &list); err != nil {
		h.t.Fatal(err)
	}
	h.until(fmt.Sprintf("generation %d is in force", list.Generation), func() bool { return h.status().Generation == list.Generation })
	return list.Generation
}

// program is a running breakwater.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

// startProgram starts breakwater and collects what it prints.
func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	return startProgramAt(t, nil, args...)
}

// startProgramAt starts it with a standard input; nil is none.
func startProgramAt(t *testing.T, stdin *os.File, args ...string) *program {
	t.Helper()
	return startCommand(t, stdin, exec.Command("breakwater", args...))
}

func startCommand(t *testing.T, stdin *os.File, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, ended: make(chan struct{}), news: make(chan struct{}, 1)}
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	collected := make(chan struct{})
	go func() {
		p.collect(r)
		close(collected)
	}()
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		select {
		case <-collected:
		case <-time.After(5 * time.Second): // a child of its own holds its output
		}
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		p.wait(10 * time.Second)
	})
	return p
}

func (p *program) collect(r io.ReadCloser) {
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *program) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !strings.Contains(p.said(), text) {
		select {
		case <-p.news:
		case <-p.ended:
			t.Fatalf("breakwater ended before it said %q:\n%s", text, p.said())
		case <-deadline.C:
			t.Fatalf("breakwater did not say %q:\n%s", text, p.said())
		}
	}
}

func (p *program) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// wait gives the exit code, or -1 when the program does not end or was killed.
func (p *program) wait(within time.Duration) int {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		return -1
	}
}
