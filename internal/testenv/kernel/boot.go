package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Compile builds static test binaries of the suites and the guest's /init into
// dir, and packs them into an initrd there. Root is the module's folder.
func (l *Lab) Compile(ctx context.Context, root, dir string, suites []Suite) (initrd string, err error) {
	init := filepath.Join(dir, "init")
	if err := goBuild(ctx, root, "build", "-trimpath", "-o", init, "./internal/testenv/kernel/guest"); err != nil {
		return "", err
	}
	var programs []program
	for i, s := range suites {
		binary := filepath.Join(dir, fmt.Sprintf("%d.test", i))
		if err := goBuild(ctx, root, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", binary, s.Package); err != nil {
			return "", err
		}
		if !exists(binary) {
			return "", fmt.Errorf("%s has no test files", s.Package)
		}
		programs = append(programs, program{
			Name: s.Package, Run: s.Run, Path: fmt.Sprintf("/tests/%d/test", i),
			binary: binary, source: filepath.Join(root, s.Package),
		})
	}
	initrd = filepath.Join(dir, "initrd.gz")
	f, err := os.Create(initrd)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return initrd, errors.Join(writeInitrd(f, init, l.busybox(), programs), f.Sync())
}

func goBuild(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Boot runs a guest until it switches itself off and returns its results. A
// guest that is not done in time is an error, with the results that it had
// until then. Live gets the console as it comes, unless nil.
func (l *Lab) Boot(ctx context.Context, g Guest, initrd string, timeout time.Duration, live io.Writer) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := l.qemu(ctx, g, initrd)
	var console, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &complaints
	if live != nil {
		cmd.Stdout = io.MultiWriter(&console, live)
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("guest %s was not done in %s: %w", g, timeout, ctx.Err())
	} else if err != nil {
		err = fmt.Errorf("guest %s: qemu: %w: %s", g, err, complaints.String())
	}
	results, broken := Parse(&console)
	return results, errors.Join(err, broken)
}

// qemu is the emulator's command: an emulated processor (stock kernels do not
// get through under every host's KVM), no devices but a serial line.
func (l *Lab) qemu(ctx context.Context, g Guest, initrd string) *exec.Cmd {
	program, args := hostQEMU(ctx), []string(nil)
	own := filepath.Join(l.qemuDir(), "usr")
	private := exists(filepath.Join(own, "bin/qemu-system-x86_64"))
	if private {
		program = filepath.Join(own, "bin/qemu-system-x86_64")
		args = []string{"-L", filepath.Join(own, "share/qemu"), "-L", filepath.Join(own, "share/seabios"), "-L", "/usr/share/qemu", "-L", "/usr/share/seabios"}
	}
	args = append(args, "-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "2", "-nodefaults", "-no-user-config",
		"-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none",
		"-kernel", l.vmlinux(g.Series), "-initrd", initrd, "-append", g.commandLine())
	cmd := exec.CommandContext(ctx, program, args...)
	if private {
		libs := filepath.Join(own, "lib/x86_64-linux-gnu")
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libs+":"+filepath.Join(l.qemuDir(), "lib/x86_64-linux-gnu"), "QEMU_MODULE_DIR="+filepath.Join(libs, "qemu"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // an interrupted test leaves no guest
	return cmd
}
