package resource_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/resource"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// busyEnv makes this test binary a program that uses what it can.
const busyEnv = "BREAKWATER_RESOURCE_TEST_BUSY"

func TestMain(m *testing.M) {
	if os.Getenv(busyEnv) != "" {
		beBusy()
		return
	}
	os.Exit(m.Run())
}

// beBusy waits for its standard input's end, which comes when it is in its
// group, and then uses processors, memory and descriptors until it is killed.
func beBusy() {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		os.Exit(1)
	}
	for range 100 {
		if _, err := syscall.Dup(0); err != nil { // nobody closes it
			os.Exit(1)
		}
	}
	memory := make([]byte, 96<<20)
	for i := 0; ; i = (i + 4096) % len(memory) {
		memory[i] = byte(i)
	}
}

// group makes a control group as engines do, in every hierarchy of the host.
func group(t *testing.T) (id string) {
	t.Helper()
	testenv.NeedRoot(t)
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	id = hex.EncodeToString(raw)
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} { // v2; hybrid has there what v1 has not
		offered, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
		if err != nil {
			continue
		}
		for _, c := range strings.Fields(string(offered)) {
			if !slices.Contains([]string{"cpu", "memory", "pids", "io"}, c) {
				continue
			}
			if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, procs := range hierarchies(t) {
		dir := filepath.Join(filepath.Dir(procs), id)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
	}
	return id
}

func hierarchies(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if _, unified := os.Stat("/sys/fs/cgroup/cgroup.procs"); unified == nil {
		all = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("no cgroup hierarchy: %v", err)
	}
	return slices.DeleteFunc(all, func(procs string) bool {
		return filepath.Base(filepath.Dir(procs)) == "cpuset" // takes nobody before its processors are named
	})
}

// busy starts the busy program in the group.
func busy(t *testing.T, id string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), busyEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for _, procs := range hierarchies(t) {
		file := filepath.Join(filepath.Dir(procs), id, "cgroup.procs")
		if err := os.WriteFile(file, fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKernelMeasuresAndThrottles needs no engine: on the kernels and hierarchies
// of `make kernel-test` it measures a busy group, holds it to less and lets it go.
func TestKernelMeasuresAndThrottles(t *testing.T) {
	groups, err := resource.OpenCgroups()
	if err != nil {
		t.Fatal(err)
	}
	id := group(t)
	groups.Find([]string{id})
	throttle, err := resource.OpenThrottle(groups, filepath.Join(t.TempDir(), "throttled.json"))
	if err != nil {
		t.Fatal(err)
	}
	busy(t, id)
	until(t, groups, id, "it is busy", func(a map[policy.Resource]uint64) bool {
		return a[policy.ResourceCPU] > 100 && a[policy.ResourceMemory] > 90<<20 && a[policy.ResourcePIDs] >= 2 && a[policy.ResourceFiles] >= 100
	})
	limits := []policy.Limit{
		{Resource: policy.ResourceCPU, Most: 20},
		{Resource: policy.ResourcePIDs, Most: 50},
		{Resource: policy.ResourceMemory, Most: 256 << 20},
	}
	before := contents(t, id)
	for _, l := range limits {
		if _, err := throttle.Set(id, l, 7); err != nil {
			t.Error(err)
		}
	}
	until(t, groups, id, "it is held", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceCPU] < 60 })
	for name, held := range contents(t, id) {
		if held == before[name] {
			t.Errorf("%s still holds %s", name, held)
		}
	}
	for _, l := range limits {
		if err := throttle.Lift(id, l.Resource); err != nil {
			t.Error(err)
		}
	}
	for name, now := range contents(t, id) {
		if now != before[name] {
			t.Errorf("%s holds %s, not %s as before", name, now, before[name])
		}
	}
	until(t, groups, id, "it is busy again", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceCPU] > 100 })
}

// contents of the files that limits are written into.
func contents(t *testing.T, id string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, procs := range hierarchies(t) {
		for _, name := range []string{"cpu.max", "cpu.cfs_quota_us", "pids.max", "memory.high", "memory.soft_limit_in_bytes"} {
			if raw, err := os.ReadFile(filepath.Join(filepath.Dir(procs), id, name)); err == nil {
				all[name] = strings.TrimSpace(string(raw))
			}
		}
	}
	if len(all) != 3 {
		t.Fatalf("the group has %v", all)
	}
	return all
}

func until(t *testing.T, groups *resource.Cgroups, id, what string, ok func(map[policy.Resource]uint64) bool) {
	t.Helper()
	var before resource.Use
	for deadline := time.Now().Add(40 * time.Second); ; {
		now, err := groups.Read(id, resource.Want{Files: true})
		if err != nil {
			t.Fatal(err)
		}
		amounts := now.Amounts(before)
		if _, rated := amounts[policy.ResourceCPU]; rated && ok(amounts) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s: %v", what, amounts)
		}
		before = now
		time.Sleep(500 * time.Millisecond) // the time that is measured
	}
}
