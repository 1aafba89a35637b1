package fuzz_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv/fuzz"
)

// module is a module with two packages of one base name, one of which has a target
// that one byte breaks.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":        "module example.test/m\n\ngo 1.26\n",
		"a/p/p.go":      "package p\n\nimport \"bytes\"\n\nfunc Parse(b []byte) { if bytes.IndexByte(b, 'W') >= 0 { panic(\"found it\") } }\n",
		"b/p/p.go":      "package p\n\nfunc Parse(b []byte) int { return len(b) }\n",
		"a/p/p_test.go": "package p_test\n\nimport (\n\t\"testing\"\n\t\"example.test/m/a/p\"\n)\n\nfunc FuzzParse(f *testing.F) { f.Add([]byte(\"BX1\")); f.Fuzz(func(t *testing.T, b []byte) { p.Parse(b) }) }\n",
		"c/up_test.go":  "package c\n\nimport \"testing\"\n\nfunc FuzzUp(f *testing.F) { f.Fatal(\"context deadline exceeded\") }\n",
		"b/p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestP(t *testing.T) {}\n\nfunc FuzzFine(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) { Parse(b) }) }\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestACrasherFailsTheRun and is shown with its input, which lies among the seeds;
// the others run beside it.
func TestACrasherFailsTheRun(t *testing.T) {
	dir := module(t)
	targets, err := fuzz.Targets(t.Context(), dir)
	var names []string
	for _, one := range targets {
		names = append(names, one.String())
	}
	if err != nil || !slices.Equal(names, []string{"example.test/m/a/p.FuzzParse", "example.test/m/b/p.FuzzFine", "example.test/m/c.FuzzUp"}) {
		t.Fatalf("%q %v", names, err)
	}
	var out bytes.Buffer
	err = fuzz.Run(t.Context(), fuzz.Options{Dir: dir, Least: 5 * time.Second, Out: &out})
	if err == nil || !strings.Contains(err.Error(), "example.test/m/a/p.FuzzParse") || !strings.Contains(err.Error(), "example.test/m/c.FuzzUp") || strings.Contains(err.Error(), "FuzzFine") {
		t.Fatalf("%v\n%s", err, out.String())
	}
	seeds, err := filepath.Glob(filepath.Join(dir, "a", "p", "testdata", "fuzz", "FuzzParse", "*"))
	if err != nil || len(seeds) != 1 {
		t.Fatalf("seeds: %q %v\n%s", seeds, err, out.String())
	}
	if strings.Contains(out.String(), "without coverage") {
		t.Errorf("the code is not instrumented:\n%s", out.String())
	}
	for _, want := range []string{"3 targets", "found it", seeds[0], `[]byte("`, "2 of 3 targets failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
}
