package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestUpInAContainer: the image of deploy/docker guards its host out of a
// container, which is spared; another container of the same image, with the same
// rights, is stopped for what the first one does all the time: speaking to the
// engine. Killed and started again, the first one lives beside what it left in force.
func TestUpInAContainer(t *testing.T) {
	h := newWholeHost(t)
	image := breakwaterImage(t, h)
	dir := filepath.Dir(h.data)
	h.pin = "/sys/fs/bpf/" + filepath.Base(dir) // a file system that outlives the container
	var at unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &at); err != nil || at.Type != unix.BPF_FS_MAGIC {
		testenv.Missing(t, "a BPF file system on /sys/fs/bpf: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(h.pin) })
	rights := []string{"--cap-drop=ALL", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--pid=host", "--cgroupns=host", "--network=host",
		"-v", "/sys/fs/cgroup:/sys/fs/cgroup", "-v", "/sys/fs/bpf:/sys/fs/bpf", "-v", dir + ":" + dir, "-v", filepath.Dir(h.engine.Socket) + ":" + filepath.Dir(h.engine.Socket)}
	for _, c := range []string{"SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "KILL", "CHOWN", "FOWNER", "SETUID", "SETGID", "DAC_OVERRIDE", "DAC_READ_SEARCH"} {
		rights = append(rights, "--cap-add="+c)
	}
	h.engine.MustRun(t, append(append(append([]string{"run", "-d", "--name", "guard"}, rights...), image), h.upArgs("--gate=no")...)...)
	said := func() string { out, errs, _ := h.engine.Run("logs", "guard"); return out + errs }
	guards := func(times int) func() bool {
		return func() bool {
			if state := h.engine.MustRun(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "guard"); state != "running 0" {
				t.Fatalf("the agent's container is %s\n%s", state, said())
			}
			return strings.Count(said(), "Guarding. Ctrl-C") == times
		}
	}
	attack := func(box string) {
		h.box(box)
		h.drift(box, box)
		h.incidentsOf(box, 1, driftIncidents())
		if h.marked(box) {
			t.Errorf("%s: a program that was not in the image ran", box)
		}
	}
	h.until("it guards", guards(1))
	attack("web")
	poser := append(append([]string{"run", "--name", "poser"}, rights...), image, "scan", "--engine=unix://"+h.engine.Socket, "docker:"+h.image)
	if out, errs, code := h.engine.Run(poser...); code != 137 {
		t.Errorf("another container spoke to the engine: %d %s%s", code, out, errs)
	}
	h.incidentsOf("poser", 1, nil)

	h.engine.MustRun(t, "kill", "guard")
	h.drift("web", "meanwhile")
	if h.marked("meanwhile") {
		t.Error("with the agent dead, a program that was not in the image ran")
	}
	h.engine.MustRun(t, "start", "guard")
	h.until("it guards again", guards(2))
	defer func() {
		if t.Failed() {
			t.Log(h.engine.MustRun(t, "ps", "-a"), said())
		}
	}()
	attack("later")
	if list := h.incidents(nil); len(list) < 4 {
		t.Errorf("%d incidents", len(list))
	}
	for _, inc := range h.incidents(nil) {
		if inc.Container != nil && inc.Container.Name == "guard" {
			t.Errorf("the agent told of itself: %s", inc.Sentence)
		}
	}
	guards(2)()
	h.engine.MustRun(t, "stop", "guard")
}

// breakwaterImage builds the image of deploy/docker from this tree.
func breakwaterImage(t *testing.T, h *wholeHost) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "breakwater")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile("../../deploy/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	return h.engine.BuildImage(t, "breakwater-test", string(dockerfile), map[string][]byte{"bin/breakwater": program})
}
