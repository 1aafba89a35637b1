package testenv

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// busyboxName is the image that BusyboxImage makes.
const busyboxName = "bw-busybox:latest"

// BusyboxImage makes sure that the engine has a small image with a static
// busybox, its applets in /bin and the folders that programs expect, and gives
// the image's name. Its command is sh.
func (d *Docker) BusyboxImage(t testing.TB) string {
	t.Helper()
	if _, _, code := d.Run("image", "inspect", busyboxName); code == 0 {
		return busyboxName
	}
	root, err := busyboxRoot()
	if err != nil {
		Missing(t, "a busybox root (package busybox-static): %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := d.Command(ctx, "import", "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin:/usr/bin", "-", busyboxName)
	cmd.Stdin = bytes.NewReader(root)
	if stdout, stderr, code := output(cmd); code != 0 {
		t.Fatalf("docker import of a busybox root: exit %d\n%s%s", code, stdout, stderr)
	}
	return busyboxName
}

// busyboxRoot is a root file system as a tar archive.
func busyboxRoot() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.CommandContext(context.Background(), path, "--list").Output()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, body []byte) {
		h.Size = int64(len(body))
		h.ModTime = time.Unix(1_700_000_000, 0) // the same image each time
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "usr", "usr/bin", "var"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\napp:x:10001:10001:app:/tmp:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\napp:x:10001:\n"))
	if err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

// BuildImage builds an image from a Dockerfile and the files beside it (path →
// content, executable) and gives its config digest. It is removed with the test.
func (d *Docker) BuildImage(t testing.TB, name, dockerfile string, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "Dockerfile")}
	if err := os.WriteFile(paths[0], []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		full := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := d.Run("build", "-q", "--network=none", "-t", name, dir)
	if code != 0 {
		t.Fatalf("docker build of %s: exit %d\n%s%s", name, code, stdout, stderr)
	}
	t.Cleanup(func() { d.Run("image", "rm", "-f", name) })
	lines := slices.Collect(strings.Lines(strings.TrimSpace(stdout)))
	return strings.TrimSpace(lines[len(lines)-1])
}
