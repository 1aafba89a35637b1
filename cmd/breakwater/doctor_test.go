package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// breakwaterAs runs the real main in a process of its own, as uid.
func breakwaterAs(t *testing.T, uid uint32, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"breakwater"}, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

func TestDoctorProbesAsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	stdout, stderr, code := breakwaterAs(t, 0, "doctor", "--format", "json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var d event.Doctor
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatal(err)
	}
	seen := map[event.Control]event.Capability{}
	for _, c := range d.Capabilities {
		seen[c.Control] = c
		if c.Strength == "" || c.Title == "" || c.Why == "" {
			t.Errorf("a row without strength, title or reason: %+v", c)
		}
	}
	for _, c := range []event.Control{event.ControlExec, event.ControlNetwork, event.ControlDetection} {
		if seen[c].Strength == event.StrengthNone {
			t.Errorf("%s: none: %s", c, seen[c].Why)
		}
	}
	if _, ok := seen[event.ControlStart]; !ok {
		t.Error("no row for start")
	}
}

func TestDoctorWithoutRoot(t *testing.T) {
	testenv.NeedRoot(t) // to become somebody else
	stdout, stderr, code := breakwaterAs(t, 65534, "doctor")
	if code != 3 {
		t.Errorf("exit %d, want 3", code)
	}
	if want := "probing needs root, this is uid 65534"; !strings.Contains(stderr, want) {
		t.Errorf("stderr %q lacks %q", stderr, want)
	}
	for _, want := range []string{"not probed", "\nstart "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, stdout)
		}
	}
}

// Whoever may not do it is told so, and who may.
func TestGateWithoutRoot(t *testing.T) {
	testenv.NeedRoot(t) // to become somebody else
	dir, err := os.MkdirTemp("/run", "breakwater-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"gate", "install", "--yes", "--engine=" + l.Addr().String()},
		{"gate", "run", "--plugin-socket=" + filepath.Join(dir, "plugins", "x.sock")},
	} {
		_, stderr, code := breakwaterAs(t, 65534, append(args, "--data="+t.TempDir())...)
		if code != exitFailed || !strings.Contains(stderr, "permission denied") || !strings.Contains(stderr, "root") {
			t.Errorf("%v: %d %q", args, code, stderr)
		}
	}
}
