package probe_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/probe"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestMain makes the test binary its own canary, and a doctor for the tests
// that need one with fewer rights.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "canary":
			if err := probe.Canary(os.Stdin, os.Stdout); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case "doctor":
			if err := json.NewEncoder(os.Stdout).Encode(probe.Run(context.Background(), options())); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func options() probe.Options { return probe.Options{Canary: []string{"canary"}} }

func find(t *testing.T, d event.Doctor, c event.Control) event.Capability {
	t.Helper()
	for _, r := range d.Capabilities {
		if r.Control == c {
			return r
		}
	}
	t.Fatalf("no row for %s", c)
	return event.Capability{}
}

// TestKernelDoctor compares the rows with what this kernel says of itself by
// other ways: its list of LSMs, the features that the BPF library finds, its
// mounts. It runs on the host and in every guest kernel.
func TestKernelDoctor(t *testing.T) {
	testenv.NeedRoot(t)
	d := probe.Run(t.Context(), options())
	want := expect(t)
	check := func(c event.Control, want event.Strength, mechanism string) {
		t.Helper()
		if r := find(t, d, c); r.Strength != want || r.Mechanism != mechanism || r.Inconclusive {
			t.Errorf("%s: %q by %q (inconclusive %v), want %q by %q: %s", c, r.Strength, r.Mechanism, r.Inconclusive, want, mechanism, r.Why)
		}
	}
	if d.Tier != want.tier || d.Hook != want.hook {
		t.Errorf("tier %d by %q, want %d by %q", d.Tier, d.Hook, want.tier, want.hook)
	}
	if d.Hierarchy != want.hierarchy {
		t.Errorf("hierarchy %s, want %s", d.Hierarchy, want.hierarchy)
	}
	programs := []event.Control{event.ControlExec, event.ControlDrift, event.ControlFileless}
	others := []event.Control{event.ControlFileRead, event.ControlFileWrite, event.ControlMount, event.ControlPtrace, event.ControlCapabilities}
	if want.tier == 1 {
		for _, c := range append(programs, others...) {
			check(c, event.StrengthPrevent, want.hook)
		}
	} else {
		for _, c := range programs {
			check(c, event.StrengthKill, "exec-kill")
		}
		check(event.ControlFileRead, event.StrengthPreventLive, "fanotify")
		check(event.ControlFileWrite, event.StrengthPreventLive, "fanotify")
	}
	check(event.ControlDetection, event.StrengthDetect, "tracepoint")
	for _, c := range []event.Control{event.ControlNetwork, event.ControlSysctl, event.ControlDevice} {
		check(c, event.StrengthPrevent, "cgroup")
	}
	private := strings.Contains(find(t, d, event.ControlNetwork).Why, "hierarchy of its own")
	if private != (want.hierarchy == "v1") {
		t.Errorf("a v2 hierarchy mounted for the probe alone: %v, on a %s host", private, want.hierarchy)
	}
}

type expectation struct {
	hook      string
	tier      int
	hierarchy string
}

func expect(t *testing.T) expectation {
	t.Helper()
	if err := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnSendSignal); err != nil {
		testenv.Missing(t, "this kernel has no bpf_send_signal: %v", err)
	}
	e := expectation{tier: 2}
	if features.HaveProgramType(ebpf.Tracing) == nil { // the guests' kernels have the functions
		e.tier, e.hook = 1, "fmod_ret"
	}
	list, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if features.HaveProgramType(ebpf.LSM) == nil && strings.Contains(","+strings.TrimSpace(string(list))+",", ",bpf,") {
		e.tier, e.hook = 1, "lsm"
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	v1, v2 := strings.Contains(string(mounts), " cgroup "), strings.Contains(string(mounts), " cgroup2 ")
	e.hierarchy = map[[2]bool]string{{true, false}: "v1", {false, true}: "v2", {true, true}: "hybrid"}[[2]bool{v1, v2}]
	return e
}

// TestKernelNeverFires: without bpf in lsm= the programs of LSM attach without
// error; the report must say that they did nothing, and another way was found.
func TestKernelNeverFires(t *testing.T) {
	if os.Getenv("BREAKWATER_GUEST_LSM") != "0" {
		t.Skip("left out: only in a guest kernel without bpf in lsm= (make kernel-test)")
	}
	d := probe.Run(t.Context(), options())
	if !slices.ContainsFunc(d.Notes, func(n string) bool {
		return strings.Contains(n, "lsm/bprm_check_security attached without error and never fired")
	}) {
		t.Errorf("notes: %q", d.Notes)
	}
	if r := find(t, d, event.ControlExec); !strings.Contains(r.Why, "fmod_ret/security_bprm_check refused the canary") {
		t.Errorf("why: %s", r.Why)
	}
}

// TestKernelLeavesNothing: no scratch cgroup, no program, no folder, no
// process remains, and what a killed prober left is cleared away.
func TestKernelLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	left, before, mode := leftover(t), children(t), expect(t).hierarchy
	probe.Run(t.Context(), options())
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover %s of a dead prober is still there (%v)", left, err)
	}
	if after := expect(t).hierarchy; after != mode {
		t.Errorf("the cgroup mounts were %s and are %s", mode, after)
	}
	own := "breakwater-probe-" + strconv.Itoa(os.Getpid())
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", os.TempDir() + "/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if strings.HasPrefix(filepath.Base(p), own) {
				t.Errorf("left behind: %s", p)
			}
		}
	}
	for child := range children(t) {
		if !before[child] {
			t.Errorf("the child process %s is left", child)
		}
	}
}

// children are this process's, by pid; a zombie is one too.
func children(t *testing.T) map[string]bool {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // threads come and go
			t.Fatal(err)
		}
		for _, pid := range strings.Fields(string(b)) {
			all[pid] = true
		}
	}
	return all
}

// leftover makes the scratch cgroup of a prober that is no more.
func leftover(t *testing.T) string {
	t.Helper()
	dead := exec.Command("/proc/self/exe", "canary")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 3 && (f[2] == "cgroup2" || f[2] == "cgroup" && strings.Contains(f[3], "freezer")) {
			dir := filepath.Join(f[1], "breakwater-probe-"+strconv.Itoa(dead.Process.Pid)+"-1")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(dir) })
			return dir
		}
	}
	t.Fatal("no cgroup hierarchy")
	return ""
}

// TestCancelled: a run that is called off says so in its rows, and tidies up.
func TestCancelled(t *testing.T) {
	testenv.NeedRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := probe.Run(ctx, options())
	for _, r := range d.Capabilities {
		if r.Control != event.ControlStart && !r.Inconclusive {
			t.Errorf("%s: %s by %s, though nothing was tried: %s", r.Control, r.Strength, r.Mechanism, r.Why)
		}
	}
}

// TestNoCanary: a prober that cannot start its canary says so.
func TestNoCanary(t *testing.T) {
	testenv.NeedRoot(t)
	for _, args := range [][]string{nil, {"-test.run=^$"}} {
		d := probe.Run(t.Context(), probe.Options{Canary: args})
		if r := find(t, d, event.ControlExec); !r.Inconclusive || !strings.Contains(r.Why, "canary") {
			t.Errorf("canary %q: %+v", args, r)
		}
	}
}

// doctorAs runs a doctor in a process of its own.
func doctorAs(t *testing.T, name string, args []string, attr *syscall.SysProcAttr) event.Doctor {
	t.Helper()
	cmd := exec.Command(name)
	cmd.Args, cmd.SysProcAttr, cmd.Dir = args, attr, "/"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var d event.Doctor
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNotRoot(t *testing.T) {
	testenv.NeedRoot(t) // to become somebody else
	d := doctorAs(t, "/proc/self/exe", []string{"probe", "doctor"}, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	for _, r := range d.Capabilities {
		if r.Control != event.ControlStart && (r.Strength != event.StrengthNone || !r.Inconclusive || r.Why != "not probed: needs root, this is uid 65534") {
			t.Errorf("%+v", r)
		}
	}
}

// TestNoBPF: root that may not use BPF, as in a container.
func TestNoBPF(t *testing.T) {
	testenv.NeedRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		testenv.Missing(t, "needs setpriv: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := doctorAs(t, setpriv, []string{"setpriv", "--bounding-set", "-sys_admin,-bpf,-perfmon", self, "doctor"}, nil)
	if d.Tier != 0 {
		t.Errorf("tier %d", d.Tier)
	}
	for _, c := range []event.Control{event.ControlExec, event.ControlDrift, event.ControlFileless, event.ControlNetwork, event.ControlDetection, event.ControlSysctl} {
		r := find(t, d, c)
		if r.Strength != event.StrengthNone || !strings.Contains(r.Why, "operation not permitted") || !strings.Contains(r.Fix, "CAP_BPF") {
			t.Errorf("%s: %+v", c, r)
		}
	}
	// What needs no BPF is told all the same.
	if r := find(t, d, event.ControlResources); r.Strength != event.StrengthPreventLive && !r.Inconclusive && !strings.Contains(r.Why, "no such controller") {
		t.Errorf("resources: %+v", r)
	}
}

// TestRepeated: probing is repeatable, also at the same time.
func TestRepeated(t *testing.T) {
	testenv.NeedRoot(t)
	runs := make(chan event.Doctor)
	for range 2 {
		go func() { runs <- probe.Run(t.Context(), options()) }()
	}
	first, second := <-runs, <-runs
	for i, r := range first.Capabilities {
		if s := second.Capabilities[i]; r.Strength != s.Strength || r.Mechanism != s.Mechanism {
			t.Errorf("%s: %q by %q, then %q by %q", r.Control, r.Strength, r.Mechanism, s.Strength, s.Mechanism)
		}
	}
	if second.Time.After(time.Now()) {
		t.Error("probed in the future")
	}
}
