package spool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/spool"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BREAKWATER_TEST_SPOOL_WRITER"); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// writeForever appends incidents between events and prints each number that it
// was given for an incident, which is a promise.
func writeForever(dir string) error {
	s, err := spool.Open(dir, spool.Options{MaxBytes: 1 << 20, SyncEvery: time.Millisecond})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for i := 0; ; i++ {
		body := []byte(`"` + strings.Repeat("e", i%3000) + `"`)
		if _, err := s.Append(ctx, api.RecordEvent, fmt.Sprintf("e%d-%d", os.Getpid(), i), time.Now(), body); err != nil && !errors.Is(err, spool.ErrFull) {
			return err
		}
		seq, err := s.Append(ctx, api.RecordIncident, fmt.Sprintf("i%d-%d", os.Getpid(), i), time.Now(), body)
		if err != nil {
			return err
		}
		fmt.Println(seq, fmt.Sprintf("i%d-%d", os.Getpid(), i))
	}
}

func TestKillLosesNoIncidentAndReusesNoNumber(t *testing.T) {
	dir := t.TempDir()
	promised := map[uint64]string{}
	for round := range 8 {
		killWriter(t, dir, 40+round*17, promised)
	}
	s := open(t, dir, spool.Options{MaxBytes: 1 << 20})
	last := add(t, s, api.RecordIncident, "end")
	found := map[uint64]string{}
	for _, r := range all(t, s, 0, last) {
		found[r.Sequence] = r.Key
	}
	for seq, key := range promised {
		if found[seq] != key {
			t.Errorf("number %d: promised %q, found %q", seq, key, found[seq])
		}
	}
	if uint64(len(found)) != last {
		t.Errorf("%d records for %d numbers", len(found), last)
	}
	if a := s.Accounts(); a.Damaged != 0 {
		t.Errorf("accounts: %+v", a)
	}
}

// killWriter runs a writer, kills it after n promises and notes those.
func killWriter(t *testing.T, dir string, n int, promised map[uint64]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BREAKWATER_TEST_SPOOL_WRITER="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		number, key, _ := strings.Cut(lines.Text(), " ")
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			break // the last line may be cut
		}
		if old, twice := promised[seq]; twice {
			t.Errorf("number %d given twice: %q and %q", seq, old, key)
		}
		promised[seq] = key
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
}

func TestTornEndIsCutAndTakesANewEpoch(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	add(t, s, api.RecordIncident, "a")
	add(t, s, api.RecordIncident, "b")
	epoch := s.Epoch()
	s.Close()
	path := segments(t, dir)[0]
	info, _ := os.Stat(path)
	if err := os.Truncate(path, info.Size()-3); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	if s.Epoch() == epoch {
		t.Error("the epoch did not change: an old acknowledgement would free a new record")
	}
	seq := add(t, s, api.RecordIncident, "c")
	if got := keys(all(t, s, 0, seq)); got != "1:a 2:c" {
		t.Errorf("got %s", got)
	}
	if a := s.Accounts(); a.Torn != 1 || a.Damaged != 0 {
		t.Errorf("accounts %+v", a)
	}
}

func TestDamagedMiddleIsPassedOverAndCounted(t *testing.T) {
	for name, offset := range map[string]int64{"header": 2, "length": 5, "body": 40} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, spool.Options{})
			add(t, s, api.RecordIncident, "a")
			info, _ := os.Stat(segments(t, dir)[0])
			add(t, s, api.RecordIncident, "b")
			add(t, s, api.RecordIncident, "c")
			s.Close()
			f, err := os.OpenFile(segments(t, dir)[0], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{0xff}, info.Size()+offset); err != nil {
				t.Fatal(err)
			}
			f.Close()
			s = open(t, dir, spool.Options{})
			if got := keys(all(t, s, 0, 3)); got != "1:a 3:c" {
				t.Errorf("got %s", got)
			}
			if a := s.Accounts(); a.Damaged != 1 || a.Of(api.RecordIncident).Stored != 2 {
				t.Errorf("accounts %+v", a)
			}
		})
	}
}

func TestLostFolderTakesANewEpoch(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	add(t, s, api.RecordIncident, "a")
	epoch := s.Epoch()
	s.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if s = open(t, dir, spool.Options{}); s.Epoch() == epoch {
		t.Error("same epoch after the folder was lost")
	}
}

func TestDamagedStateIsNoReasonToStop(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	add(t, s, api.RecordIncident, "a")
	s.Close()
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	if got := keys(all(t, s, 0, 1)); got != "1:a" {
		t.Errorf("got %s", got)
	}
}

// TestFullDisk uses a real one: a tmpfs of 256 KiB.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		testenv.Missing(t, "cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := open(t, filepath.Join(dir, "spool"), spool.Options{MaxBytes: 1 << 30})
	ballast := filepath.Join(dir, "ballast")
	fillDisk(t, ballast)

	body := []byte(`"` + strings.Repeat("x", 9000) + `"`)
	if _, err := s.Append(t.Context(), api.RecordEvent, "e", time.Now(), body); !errors.Is(err, spool.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("event on a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ctx, api.RecordIncident, "given-up", time.Now(), body); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("incident on a full disk, given up: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), api.RecordIncident, "patient", time.Now(), body)
		done <- err
	}()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("incident after space came back: %v", err)
	}
	if got := keys(all(t, s, 0, 1)); got != "1:patient" {
		t.Errorf("got %s", got)
	}
	a := s.Accounts()
	if e, i := a.Of(api.RecordEvent), a.Of(api.RecordIncident); e.Dropped != 1 || i.Dropped != 1 || i.Stored != 1 {
		t.Errorf("accounts %+v", a)
	}
}

func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 1000 {
		if _, err = f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("disk did not fill: %v", err)
	}
}
