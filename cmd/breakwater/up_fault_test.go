package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // its driver

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// shutdownWithin is how long `up` may take to end in order on a busy machine.
const shutdownWithin = 30 * time.Second

// TestUpFollowsItsEngine: the engine goes away and comes back.
func TestUpFollowsItsEngine(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	if err := h.engine.Stop(); err != nil {
		t.Fatal(err)
	}
	h.until("the host says that its engine is away", func() bool { return strings.Contains(strings.Join(h.status().Problems, " "), h.engine.Socket) })
	if err := h.engine.Start(); err != nil {
		t.Fatal(err)
	}
	h.engine.MustRun(t, "start", "web")
	h.box("second")
	for _, name := range []string{"web", "second"} {
		h.drift(name, name)
		if h.marked(name) {
			t.Errorf("%s: a program that was not in the image ran", name)
		}
		if got := h.incidentsOf(name, 1, driftIncidents()); len(got) != 1 || got[0].Container.Image.Name() != h.image {
			t.Errorf("%d incidents, first of %+v", len(got), got[0].Container)
		}
	}
	h.until("nothing is wrong any more", func() bool { return len(h.status().Problems) == 0 })
}

// TestUpWithSickStorage: with a locked database or a full disk enforcement goes
// on, and what happened is told once they are well again.
func TestUpWithSickStorage(t *testing.T) {
	h := newWholeHost(t)
	if err := os.Mkdir(h.data, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.data, "tmpfs", 0, "size=96m,mode=750"); err != nil {
		testenv.Missing(t, "a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(h.data, unix.MNT_DETACH) })
	h.start("--gate=no")
	h.box("web")
	h.drift("web", "before")
	h.incidentsOf("web", 1, driftIncidents())
	unlock := lockDatabase(t, filepath.Join(h.data, "server", "breakwater.db"))
	h.drift("web", "locked")
	h.until("the database is complained about", func() bool { return strings.Contains(h.up.said(), "batch not stored") })
	unlock()
	h.incidentsOf("web", 2, driftIncidents())
	filler := filepath.Join(h.data, "filler")
	fill(t, filler)
	for i := range 3 {
		h.drift("web", fmt.Sprint("full", i))
	}
	h.box("late", "--cap-add=SYS_MODULE")
	h.until("a refused container is stopped on a full disk", func() bool {
		return h.engine.MustRun(t, "inspect", "-f", "{{.State.Running}}", "late") == "false"
	})
	h.until("the disk is complained about", func() bool { return strings.Contains(h.up.said(), "room on the disk") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	got := h.incidentsOf("web", 5, driftIncidents())
	for _, mark := range []string{"before", "locked", "full0", "full1", "full2"} {
		if h.marked(mark) {
			t.Errorf("%s: a program that was not in the image ran", mark)
		}
	}
	h.incidentsOf("late", 1, nil)
	if len(got) != 5 {
		t.Errorf("%d incidents of 5 attacks", len(got))
	}
	h.up.signal(syscall.SIGTERM)
	if code := h.up.wait(shutdownWithin); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// lockDatabase writes to a database and does not finish, until unlock.
func lockDatabase(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := db.Close(); err != nil { // takes back what was begun
			t.Error(err)
		}
	}
}

// fill takes every byte that a file system has left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestUpToSyslog: incidents reach a receiver over TLS, those too that happened
// while either side was away.
func TestUpToSyslog(t *testing.T) {
	h := newWholeHost(t)
	receiver := testenv.NeedRsyslog(t, false)
	receiver.Start(t)
	config := fmt.Sprintf("apiVersion: breakwater/v1\nkind: Configuration\noutputs:\n  - name: siem\n    syslog: {address: %q, ca: %q}\n", receiver.Address, receiver.CA)
	file := h.data + "-breakwater.yaml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start("--gate=no", "--config="+file)
	h.box("web")
	times := func(mark string) (n int) {
		for _, m := range receiver.Read(t) {
			if strings.Contains(m.Message, "/tmp/"+mark+"/touch") && json.Valid([]byte(strings.TrimSpace(m.Message))) {
				n++
			}
		}
		return n
	}
	h.drift("web", "one")
	h.until("the first incident is received", func() bool { return times("one") > 0 })
	receiver.Kill()
	h.drift("web", "two")
	h.incidentsOf("web", 2, driftIncidents())
	h.kill()
	h.drift("web", "three")
	receiver.Start(t)
	t.Cleanup(receiver.Stop)
	h.start("--gate=no", "--config="+file)
	// At least once: a receiver that is killed does not say how far it got.
	h.until("everything is received", func() bool { return times("one") > 0 && times("two") > 0 && times("three") > 0 })
}
