package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// gateSite is an engine and the flags by which gate commands know it.
type gateSite struct {
	engine *testenv.Docker
	flags  []string
}

func (s gateSite) breakwater(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("breakwater", append(args, s.flags...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (s gateSite) state(t *testing.T) gateState {
	t.Helper()
	out, errs, _ := s.breakwater(t, "", "gate", "status", "--format=json")
	var st gateState
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	return st
}

func (s gateSite) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestGate goes through a gate's life on a running engine: it is started,
// installed, each half of it is killed, and it is uninstalled.
func TestGate(t *testing.T) {
	const original = "{\n    \"labels\": [\"a=b\"]\n}\n"
	s := gateSite{engine: testenv.NewDocker(t, testenv.WithConfig([]byte(original)))}
	plugin := "/run/docker/plugins/" + filepath.Base(s.engine.Dir) + ".sock"
	t.Cleanup(func() { os.Remove(plugin) })
	s.flags = []string{"--engine=unix://" + s.engine.Socket, "--plugin-socket=" + plugin, "--data=" + filepath.Join(s.engine.Dir, "data")}
	busybox := s.engine.BusyboxImage(t)

	if _, errs, code := s.breakwater(t, "", "gate", "install", "--yes"); code != exitFailed || !strings.Contains(errs, "breakwater gate run") {
		t.Errorf("installed without a gate: %d %s", code, errs)
	}
	run := exec.Command("breakwater", append([]string{"gate", "run"}, s.flags...)...)
	log, err := os.Create(filepath.Join(t.TempDir(), "gate.log")) // a pipe would be waited for, and the worker holds it too
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run.Stderr = log
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.endGate(t) })
	s.until(t, "the gate answers", func() bool { st := s.state(t); return st.Gate != nil && st.Gate.Worker != 0 })

	if out, _, code := s.breakwater(t, "n\n", "gate", "install"); code != exitOK || !strings.Contains(out, `+    "authorization-plugins": [`) || !strings.Contains(out, "Nothing was changed") {
		t.Errorf("no was no answer: %d\n%s", code, out)
	}
	if _, errs, code := s.breakwater(t, "", "gate", "install"); code != exitFailed || !strings.Contains(errs, "--yes") {
		t.Errorf("silence was an answer: %d %s", code, errs)
	}
	if s.state(t).InUse {
		t.Error("the engine asks the gate although nobody agreed")
	}
	if out, errs, code := s.breakwater(t, "y\n", "gate", "install"); code != exitOK || !s.state(t).InUse {
		t.Fatalf("install: %d\n%s%s", code, out, errs)
	}
	if _, stderr, code := s.engine.Run("run", "--rm", "--network=none", busybox, "true"); code == 0 || !strings.Contains(stderr, "no policy is in force") {
		t.Errorf("without a policy: %d %s", code, stderr)
	}

	// The supervisor is killed: its worker takes its place, with the socket.
	before := s.state(t).Gate
	if before == nil || before.Supervisor != run.Process.Pid {
		t.Fatalf("gate = %+v, its supervisor should be %d", before, run.Process.Pid)
	}
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = run.Wait() // killed, as it should be
	s.engine.MustRun(t, "ps")
	s.until(t, "the worker has taken over", func() bool {
		st := s.state(t)
		return st.Gate != nil && st.Gate.Supervisor == before.Worker && st.Gate.Worker != 0
	})
	if _, stderr, code := s.engine.Run("run", "--rm", "--network=none", busybox, "true"); code == 0 || !strings.Contains(stderr, "no policy is in force") {
		t.Errorf("after the supervisor's death: %d %s", code, stderr)
	}

	if _, errs, code := s.breakwater(t, "", "gate", "uninstall", "--yes"); code != exitOK {
		t.Errorf("uninstall: %d %s", code, errs)
	}
	if data, err := os.ReadFile(s.engine.ConfigFile); err != nil || string(data) != original {
		t.Errorf("daemon.json is %q (%v)", data, err)
	}
	s.engine.MustRun(t, "run", "--rm", "--network=none", busybox, "true")
	if _, errs, code := s.breakwater(t, "", "gate", "status"); code != exitFailed || !strings.Contains(errs, "gate install") {
		t.Errorf("status: %d %s", code, errs)
	}
}

// endGate ends the gate that answers, if one does.
func (s gateSite) endGate(t *testing.T) {
	st := s.state(t)
	if st.Gate == nil {
		return
	}
	if err := syscall.Kill(st.Gate.Supervisor, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	s.until(t, "the gate ended", func() bool { return s.state(t).Gate == nil })
	plugin := strings.TrimPrefix(s.flags[1], "--plugin-socket=")
	s.until(t, "the gate took its socket away", func() bool { _, err := os.Lstat(plugin); return os.IsNotExist(err) })
}
