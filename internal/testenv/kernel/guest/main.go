//go:build linux

// Command guest is the /init of a guest kernel: it mounts what a Linux system
// has mounted, runs the test binaries of /tests.json one after the other with
// markers around each on the console, and switches the machine off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the first process of a guest kernel; see the package kernel")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Printf("##guest## broken %v\n", err)
	}
	syscall.Sync()
	if err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Printf("##guest## broken power off: %v\n", err)
	}
	select {} // a first process that returns is a kernel panic
}

func run() error {
	if err := mountBasics(); err != nil {
		return err
	}
	words, err := bootWords()
	if err != nil {
		return err
	}
	if err := mountCgroups(words["breakwater.cgroup"]); err != nil {
		return err
	}
	if err := prepare(); err != nil {
		return err
	}
	return runAll(environ(words))
}

// prepare makes the shell commands and the loopback interface.
func prepare() error {
	for _, args := range [][]string{
		{"--install", "-s", "/bin"},
		{"ip", "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command("/bin/busybox", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("busybox %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func mountBasics() error {
	for _, m := range []struct{ fs, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
		{"securityfs", "/sys/kernel/security"}, {"tracefs", "/sys/kernel/tracing"}, {"bpf", "/sys/fs/bpf"},
	} {
		if err := mount(m.fs, m.dir, ""); err != nil {
			return err
		}
	}
	return nil
}

func mount(fs, dir, data string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// devtmpfs may be mounted by the kernel already.
	if err := syscall.Mount(fs, dir, fs, 0, data); err != nil && !errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("mount %s at %s: %w", fs, dir, err)
	}
	return nil
}

// bootWords are the name=value words of the kernel's command line.
func bootWords() (map[string]string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	words := map[string]string{}
	for _, w := range strings.Fields(string(line)) {
		if name, value, ok := strings.Cut(w, "="); ok {
			words[name] = value
		}
	}
	return words, nil
}

func mountCgroups(hierarchy string) error {
	const root = "/sys/fs/cgroup"
	switch hierarchy {
	case "v2":
		if err := mount("cgroup2", root, ""); err != nil {
			return err
		}
		return enableControllers(root)
	case "v1", "hybrid":
	default:
		return fmt.Errorf("breakwater.cgroup=%q on the kernel's command line: want v1, v2 or hybrid", hierarchy)
	}
	if err := mount("tmpfs", root, "mode=755"); err != nil {
		return err
	}
	for _, c := range []string{"cpu", "cpuacct", "memory", "devices", "freezer", "pids"} {
		err := mount("cgroup", filepath.Join(root, c), c)
		if errors.Is(err, syscall.EINVAL) { // newer kernels leave v1 out of some controllers
			fmt.Printf("guest: this kernel has no v1 %s controller\n", c)
			err = os.Remove(filepath.Join(root, c))
		}
		if err != nil {
			return err
		}
	}
	if hierarchy == "hybrid" {
		return mount("cgroup2", filepath.Join(root, "unified"), "")
	}
	return nil
}

// enableControllers hands every controller to the root's children, as systemd does.
func enableControllers(root string) error {
	have, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(have)) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return fmt.Errorf("enable the %s controller: %w", c, err)
		}
	}
	return nil
}

func environ(words map[string]string) []string {
	return []string{
		"PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "BREAKWATER_TEST_REQUIRE=1",
		"BREAKWATER_GUEST=" + words["breakwater.guest"],
		"BREAKWATER_GUEST_CGROUP=" + words["breakwater.cgroup"],
		"BREAKWATER_GUEST_LSM=" + words["breakwater.lsm"],
		"BREAKWATER_GUEST_RETURN=" + words["breakwater.return"],
		// What the enforce package's tests ask.
		"BREAKWATER_TEST_TIER1=" + words["breakwater.lsm"],
		"BREAKWATER_TEST_RETURN=" + words["breakwater.return"],
	}
}

// timeLimit of one suite: ten times what it takes on a quiet machine, and less
// than the guest is given, so that a hang tells where it is.
const timeLimit = "25m"

func runAll(env []string) error {
	list, err := os.ReadFile("/tests.json")
	if err != nil {
		return err
	}
	var tests []struct{ Name, Run, Path string }
	if err := json.Unmarshal(list, &tests); err != nil {
		return fmt.Errorf("/tests.json: %w", err)
	}
	for _, t := range tests {
		fmt.Printf("##guest## begin %s\n", t.Name)
		cmd := exec.Command(t.Path, "-test.v", "-test.run="+t.Run, "-test.timeout="+timeLimit)
		cmd.Dir, cmd.Env = filepath.Dir(t.Path), env
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		err := cmd.Run()
		if err != nil && cmd.ProcessState == nil {
			return err
		}
		fmt.Printf("##guest## end %s %d\n", t.Name, cmd.ProcessState.ExitCode())
	}
	return nil
}
