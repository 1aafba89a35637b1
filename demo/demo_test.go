package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestDemo runs the demo as `make demo` does; and without enforcement, when it
// must fail, for otherwise its witnesses would see nothing.
func TestDemo(t *testing.T) {
	testenv.NeedRoot(t)
	for _, program := range []string{"dockerd", "busybox", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			if _, err := os.Stat("/usr/sbin/" + program); err != nil {
				testenv.Missing(t, "the demo needs %s", program)
			}
		}
	}
	if err := os.Chdir(".."); err != nil { // the demo reads its files from the project's root
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, pkg := range map[string]string{"breakwater": "./cmd/breakwater", "demo": "./demo"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "demo"), append([]string{"--breakwater", filepath.Join(dir, "breakwater")}, args...)...).CombinedOutput()
		return string(out), err
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "Every claim held.") || strings.Contains(out, "DONE") || strings.Count(out, "/incidents/") != 7 {
		t.Errorf("with enforcement: %v\n%s", err, out)
	}
	out, err = run("--enforcement=off")
	if err == nil || !strings.Contains(out, "7 of the demo's claims did not hold.") {
		t.Errorf("without enforcement the demo must fail on every claim: %v\n%s", err, out)
	}
}
