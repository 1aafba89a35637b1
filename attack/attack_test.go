package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// notAttacked are the detections that no attack of the list is told by, each
// with the reason.
func notAttacked() map[string]string {
	return map[string]string{
		"escape-kernel-helper":  "would have the host's kernel run a program: internal/enforce does that to a kernel of its own",
		"kernel-memory-read":    "needs /proc/kcore, which kernels may lack, and procfs to be seen (tier 1)",
		"kernel-reconnaissance": "needs procfs to be seen (tier 1)",
	}
}

func TestTheListIsWhole(t *testing.T) {
	rules, err := detect.Load(content.Detections())
	if err != nil {
		t.Fatal(err)
	}
	list := all()
	if len(list) < 100 {
		t.Errorf("%d attacks", len(list))
	}
	seen, tells, short := map[string]bool{}, []string{}, 0
	for _, a := range list {
		if seen[a.id] {
			t.Errorf("two attacks are called %s", a.id)
		}
		seen[a.id] = true
		tells = append(tells, a.tells...)
		if a.short {
			short++
		}
		if len(a.tells) == 0 || a.tier1 == "" || a.tier2 == "" {
			t.Errorf("%s expects nothing", a.id)
		}
	}
	if short < 10 {
		t.Errorf("the short form has %d attacks", short)
	}
	for _, r := range rules.All() {
		if _, excused := notAttacked()[r.ID]; excused == slices.Contains(tells, r.ID) {
			t.Errorf("%s: attacked or excused, one of both", r.ID)
		}
	}
}

// TestAttacks runs the short form as `make attack` does; and without
// enforcement, when whatever was to be stopped must do its harm.
func TestAttacks(t *testing.T) {
	testenv.NeedRoot(t)
	for _, program := range []string{"dockerd", "busybox", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			if _, err := os.Stat("/usr/sbin/" + program); err != nil {
				testenv.Missing(t, "the attacks need %s", program)
			}
		}
	}
	t.Chdir("..") // the suite reads its files from the project's root
	dir := t.TempDir()
	for name, pkg := range map[string]string{"breakwater": "./cmd/breakwater", "attack": "./attack"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run := func(args ...string) (string, error) {
		args = append([]string{"--short", "--breakwater", filepath.Join(dir, "breakwater")}, args...)
		out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "attack"), args...).CombinedOutput()
		return string(out), err
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "Every attack ended as it should.") {
		t.Errorf("with enforcement: %v\n%s", err, out)
	}
	out, err = run("--enforcement=off")
	if err == nil {
		t.Errorf("without enforcement the suite must fail:\n%s", out)
	}
	for _, line := range regexp.MustCompile(`(?m)^.* stopped .*$`).FindAllString(out, -1) {
		if !strings.Contains(line, "DONE") {
			t.Errorf("without enforcement it must do its harm: %s", line)
		}
	}
}
