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
	for name, records := range map[string]int{"database": 1500, "download": 6000} {
		entries := map[string]string{}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range records {
			var title strings.Builder // that no compression makes small
			for range 12 {
				fmt.Fprintf(&title, "%016x", random.Uint64())
			}
			id := fmt.Sprintf("X-%d", i)
			entries[id+".json"] = strings.Replace(record(id, id), `"modified"`, fmt.Sprintf(`"summary":%q,"modified"`, title.String()), 1)
		}
		p.set("/osv/npm/all.zip", string(zipped(t, entries)))
		_, err := intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"})
		if err == nil || !strings.Contains(err.Error(), "full") && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if m, err := intel.Verify(data); err != nil || m.Version != before.Version {
			t.Errorf("%s: in use is %s, %v", name, m.Version, err)
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
