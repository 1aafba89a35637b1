package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to the first is typed at the
// second.
func terminal(t *testing.T) (typist, screen *os.File) {
	t.Helper()
	typist, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { typist.Close() })
	if err := unix.IoctlSetPointerInt(int(typist.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(typist.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if screen, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return typist, screen
}

// TestUpTakesNoForAnAnswer: who declines the gate gets none, not even one that
// runs and is not asked; and who ends up at the question ends it.
func TestUpTakesNoForAnAnswer(t *testing.T) {
	t.Setenv("TERM", "xterm")
	h := newWholeHost(t)
	typist, screen := terminal(t)
	before, err := os.ReadFile(h.engine.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}

	h.up = startProgramAt(t, screen, h.upArgs()...)
	h.up.waitFor(t, "authorization-plugins")
	if _, err := typist.WriteString("n\n"); err != nil {
		t.Fatal(err)
	}
	h.up.waitFor(t, "Guarding. Ctrl-C")
	h.declined(before)
	h.up.signal(syscall.SIGINT)
	if code := h.up.wait(30 * time.Second); code != exitOK {
		t.Errorf("exit code %d\n%s", code, h.up.said())
	}

	h.up = startProgramAt(t, screen, h.upArgs()...)
	h.up.waitFor(t, "authorization-plugins")
	h.up.signal(syscall.SIGINT)
	if code := h.up.wait(30 * time.Second); code != exitOK {
		t.Errorf("ended at the question: exit code %d\n%s", code, h.up.said())
	}
	h.declined(before)
}

// declined checks that neither the engine's configuration nor a gate is there.
func (h *wholeHost) declined(before []byte) {
	h.t.Helper()
	after, err := os.ReadFile(h.engine.ConfigFile)
	if err != nil || string(after) != string(before) {
		h.t.Errorf("the engine's configuration was changed: %s %v", after, err)
	}
	if out, errs, code := h.run("gate", "status", "--engine="+h.engine.Socket, "--plugin-socket="+h.plugin); code != exitFailed || strings.Contains(out, "supervisor") {
		h.t.Errorf("a gate runs: %d %s%s", code, out, errs)
	}
}
