package kernel

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Lab is the cache folder with everything that a guest needs from elsewhere.
type Lab struct {
	Dir string
	Log io.Writer // says what is fetched and why
}

// NewLab is the lab in the user's cache folder, $XDG_CACHE_HOME/breakwater/kernels.
func NewLab(log io.Writer) (*Lab, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("no cache folder for guest kernels: %w", err)
	}
	return &Lab{Dir: filepath.Join(cache, "breakwater", "kernels"), Log: log}, nil
}

// minQEMU is the oldest QEMU that carries the guests: 7.2 crashes with kernel
// 6.12 on a busy machine.
const minQEMU = 10

// Fetch makes sure of QEMU, busybox and a kernel of each series. What is there
// already is left alone and needs no network; delete the folder to get newer
// kernels. The machine's own packages and apt state are not touched. Several
// processes may call it at once.
func (l *Lab) Fetch(ctx context.Context, series ...string) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("guest kernels are tested on amd64 machines only, this is %s", runtime.GOARCH)
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(l.Dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	apt := &apt{dir: filepath.Join(l.Dir, "apt")}
	if err := l.fetchQEMU(ctx, apt); err != nil {
		return fmt.Errorf("fetch QEMU %d: %w", minQEMU, err)
	}
	if err := l.fetchBusybox(ctx, apt); err != nil {
		return fmt.Errorf("fetch busybox: %w", err)
	}
	for _, s := range series {
		if err := l.fetchKernel(ctx, apt, s); err != nil {
			return fmt.Errorf("fetch a kernel %s: %w", s, err)
		}
	}
	return nil
}

// lock takes a file lock, waiting for whoever holds it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.Log, "kernel lab: "+format+"\n", args...)
}

func (l *Lab) qemuDir() string { return filepath.Join(l.Dir, "qemu") }

func (l *Lab) fetchQEMU(ctx context.Context, apt *apt) error {
	if exists(filepath.Join(l.qemuDir(), "usr/bin/qemu-system-x86_64")) || hostQEMU(ctx) != "" {
		return nil
	}
	l.say("fetching QEMU %d from Debian's backports into %s: older ones crash under these kernels", minQEMU, l.qemuDir())
	debs, err := apt.closure(ctx, "bookworm-backports", "qemu-system-x86")
	if err != nil {
		return err
	}
	return unpackAll(ctx, l.qemuDir(), debs)
}

// hostQEMU is the machine's own QEMU when that is new enough, else empty.
func hostQEMU(ctx context.Context) string {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	_, version, _ := strings.Cut(string(out), "version ")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < minQEMU {
		return ""
	}
	return path
}

func (l *Lab) busybox() string { return filepath.Join(l.Dir, "busybox", "bin", "busybox") }

func (l *Lab) fetchBusybox(ctx context.Context, apt *apt) error {
	if exists(l.busybox()) {
		return nil
	}
	l.say("fetching busybox-static: the guests' shell commands")
	deb, err := apt.download(ctx, "busybox-static")
	if err != nil {
		return err
	}
	return unpackAll(ctx, filepath.Join(l.Dir, "busybox"), []string{deb})
}

func (l *Lab) vmlinux(series string) string { return filepath.Join(l.Dir, "vmlinux-"+series) }

func (l *Lab) fetchKernel(ctx context.Context, apt *apt, series string) error {
	if exists(l.vmlinux(series)) {
		return nil
	}
	name, err := apt.newest(ctx, `^linux-image-`+strings.ReplaceAll(series, ".", `\.`)+`\.[0-9].*cloud-amd64$`)
	if err != nil {
		return err
	}
	l.say("fetching %s: a kernel with BPF LSM, BTF and both cgroup hierarchies", name)
	deb, err := apt.download(ctx, name)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.Dir, "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := unpackAll(ctx, dir, []string{deb}); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("%s holds %d kernels, not one", deb, len(images))
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	elf, err := vmlinux(image)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(images[0]), err)
	}
	return writeFile(l.vmlinux(series), elf)
}

// unpackAll unpacks packages into a folder that appears only when complete.
func unpackAll(ctx context.Context, dir string, debs []string) error {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	for _, deb := range debs {
		if err := os.MkdirAll(part, 0o755); err != nil {
			return err
		}
		if _, err := command(ctx, "", "", "dpkg", "-x", deb, part); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path+".part", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
