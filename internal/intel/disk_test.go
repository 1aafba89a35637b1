package intel_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestFullDisk builds on a file system of 1 MiB: when the download, or the
// database, does not fit, the bundle before stays in use, and nothing is left.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	p, data := newPublisher(t), t.TempDir()
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=1m"); err != nil {
		testenv.Missing(t, "cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, 0) })
	before := build(t, intel.Options{Data: data, Source: p.URL})
	for name, records := range map[string]int{"database": 2000, "download": 6000} {
		entries := map[string]string{}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range records {
			entries[fmt.Sprintf("X-%d.json", i)] = record(fmt.Sprintf("X-%d", i), fmt.Sprintf("pkg-%x", random.Uint64()))
		}
		p.set("/osv/npm/all.zip", string(zipped(t, entries)))
		_, err := intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"})
		full := errors.Is(err, syscall.ENOSPC) || err != nil && strings.Contains(err.Error(), "full")
		m, verr := intel.Verify(data)
		if verr != nil {
			t.Fatalf("%s: %v", name, verr)
		}
		kept := m.Version == before.Version || len(m.Failures()) == 1 && strings.Contains(m.Failures()[0].Error, "space")
		if !full && err != nil || !kept {
			t.Errorf("%s: %v; in use: %+v", name, err, m)
		}
		if left, _ := filepath.Glob(filepath.Join(data, "intel", ".build-*")); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
		if findings, _ := match(t, open(t, data), npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
			t.Errorf("%s: %q", name, ids(findings))
		}
	}
	if _, err := os.Stat(filepath.Join(data, "keys", "intel.key")); err != nil {
		t.Error(err)
	}
}
