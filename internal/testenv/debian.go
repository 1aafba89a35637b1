package testenv

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// DebianImage makes sure that the engine has an image of this machine's own
// release of Debian or Ubuntu with packages in it, and gives its name. The root
// is made once by debootstrap, from where this machine gets its packages, and
// kept in the user's cache folder: making it takes minutes.
func (d *Docker) DebianImage(t testing.TB, packages ...string) string {
	t.Helper()
	root, err := debianRoot(t.Context(), packages)
	if err != nil {
		Missing(t, "a Debian root (package debootstrap): %v", err)
	}
	const name = "bw-debian:latest"
	archive, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := d.Command(ctx, "import", "-c", `CMD ["bash"]`, "-c", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "-", name)
	cmd.Stdin = archive
	if stdout, stderr, code := output(cmd); code != 0 {
		t.Fatalf("docker import of a Debian root: exit %d\n%s%s", code, stdout, stderr)
	}
	return name
}

func debianRoot(ctx context.Context, packages []string) (string, error) {
	debootstrap, err := lookPath("debootstrap")
	if err != nil {
		return "", err
	}
	id, codename, err := release()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	what := fmt.Appendf(nil, "%s %s %s", id, codename, strings.Join(packages, ","))
	archive := filepath.Join(cache, "breakwater-test", fmt.Sprintf("debian-%x.tar", sha256.Sum256(what)))
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o700); err != nil {
		return "", err
	}
	mirror, err := mirrorOf(ctx, codename)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "breakwater-debian-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	components := "main"
	if id == "ubuntu" {
		components = "main,universe"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	root := filepath.Join(dir, "root")
	if out, err := quietly(ctx, debootstrap, "--variant=minbase", "--components="+components, "--include="+strings.Join(packages, ","), codename, root, mirror); err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, out)
	}
	// What nobody runs would only take time at each import.
	partial := archive + ".partial"
	if out, err := quietly(ctx, "tar", "-C", root, "-cf", partial, "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*",
		"--exclude=./usr/share/doc/*", "--exclude=./usr/share/man/*", "--exclude=./usr/share/locale/*", "--exclude=./dev/*", "."); err != nil {
		return "", fmt.Errorf("pack the root: %w: %s", err, out)
	}
	return archive, os.Rename(partial, archive)
}

// quietly runs a program and gives the end of what it printed.
func quietly(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(out[max(0, len(out)-2000):]), err
}

// release is this machine's (os-release(5)).
func release() (id, codename string, err error) {
	raw, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.Trim(value, `"`); key {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			codename = value
		}
	}
	if codename == "" {
		return "", "", fmt.Errorf("/etc/os-release names no release")
	}
	return id, codename, nil
}

// mirrorOf is where this machine gets the packages of a release.
func mirrorOf(ctx context.Context, codename string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if name, uri, _ := strings.Cut(strings.TrimSpace(line), " "); name == codename {
			return uri, nil
		}
	}
	return "", fmt.Errorf("apt knows no source of %s", codename)
}
