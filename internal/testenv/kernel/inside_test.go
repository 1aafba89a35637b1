package kernel_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/testenv/kernel"
)

// TestKernelIsAsBooted runs in a guest and compares what was asked for with
// what the kernel says of itself.
func TestKernelIsAsBooted(t *testing.T) {
	guest := os.Getenv(kernel.EnvGuest)
	if guest == "" {
		t.Skip("left out: runs inside a guest kernel (make kernel-test)")
	}
	release := read(t, "/proc/sys/kernel/osrelease")
	if series, _, _ := strings.Cut(guest, "-"); !strings.HasPrefix(release, series+".") {
		t.Errorf("guest %s runs kernel %s", guest, release)
	}
	lsm := strings.Contains(","+strings.TrimSpace(read(t, "/sys/kernel/security/lsm"))+",", ",bpf,")
	if want := os.Getenv(kernel.EnvLSM) == "1"; lsm != want {
		t.Errorf("bpf among the kernel's LSMs: %v, want %v", lsm, want)
	}
	mounts := read(t, "/proc/self/mounts")
	has := map[string]bool{"v1": strings.Contains(mounts, " cgroup "), "v2": strings.Contains(mounts, " cgroup2 ")}
	want := map[string]map[string]bool{
		"v1":     {"v1": true, "v2": false},
		"v2":     {"v1": false, "v2": true},
		"hybrid": {"v1": true, "v2": true},
	}[os.Getenv(kernel.EnvCgroup)]
	if has["v1"] != want["v1"] || has["v2"] != want["v2"] {
		t.Errorf("cgroup mounts %v, want %v", has, want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
