package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Ctr runs containerd's command line against the engine's containerd, in the
// namespace default.
func (d *Docker) Ctr(t testing.TB, args ...string) string {
	t.Helper()
	program, err := lookPath("ctr")
	if err != nil {
		Missing(t, "no ctr (package containerd)")
	}
	all := append([]string{"--address", filepath.Join(d.Dir, "containerd.sock"), "--namespace", "default"}, args...)
	out, err := exec.CommandContext(t.Context(), program, all...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Podman is a Podman with a storage of its own.
type Podman struct {
	Root    string // the storage
	program string
	args    []string
}

// NewPodman makes an empty storage with a driver: overlay or vfs.
func NewPodman(t testing.TB, driver string) *Podman {
	t.Helper()
	program, err := lookPath("podman")
	if err != nil {
		Missing(t, "no podman (package podman)")
	}
	dir, err := os.MkdirTemp("", "bwp") // podman takes no long path
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	t.Cleanup(func() {
		_ = exec.Command("umount", "-l", filepath.Join(root, "overlay")).Run() // not mounted with vfs
		_ = os.RemoveAll(dir)
	})
	return &Podman{Root: root, program: program, args: []string{
		"--root", root, "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--storage-driver", driver, "--cgroup-manager", "cgroupfs", "--events-backend", "file",
	}}
}

// Run runs a command that must succeed.
func (p *Podman) Run(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), p.program, append(append([]string{}, p.args...), args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("podman %v: %v\n%s", args, err, out)
	}
}
