package intel_test

import (
	"archive/zip"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
)

var update = flag.Bool("update", false, "make the mirror's archives again")

// TestMirrorIsWhole: the archives of testdata/mirror are those of its records.
func TestMirrorIsWhole(t *testing.T) {
	for _, ecosystem := range []string{"Debian", "Go", "npm"} {
		dir := filepath.Join("testdata", "mirror", "osv", ecosystem)
		archive, csv := pack(t, dir)
		for name, want := range map[string][]byte{"all.zip": archive, "modified_id.csv": csv} {
			path := filepath.Join(dir, name)
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
				t.Errorf("%s is not what its records make: run with -update", path)
			}
		}
	}
}

// TestHelperForOtherRooms: what inteltest gives can be opened.
func TestHelperForOtherRooms(t *testing.T) {
	if findings, _ := match(t, open(t, inteltest.Data(t)), npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
		t.Errorf("findings = %q", ids(findings))
	}
}

// pack makes an ecosystem's all.zip and modified_id.csv of its records.
func pack(t *testing.T, dir string) (archive, csv []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no records in %s: %v", dir, err)
	}
	entries := map[string]string{}
	var lines bytes.Buffer
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		advisory, err := feed.ParseOSV(data)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		entries[filepath.Base(path)] = string(data)
		fmt.Fprintf(&lines, "%s,%s\n", advisory.Modified.Format("2006-01-02T15:04:05Z"), advisory.ID)
	}
	return zipped(t, entries), lines.Bytes()
}

// zipped makes an archive whose bytes depend on its entries only.
func zipped(t testing.TB, entries map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range sortedKeys(entries) {
		// Stored, not deflated: the compressor may change, the bytes must not.
		entry, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write([]byte(entries[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
