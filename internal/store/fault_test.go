package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// ingestForEver makes this test binary the process that is killed: it stores
// batches from a number on and prints each one's number when it is committed.
const ingestForEver = "BREAKWATER_TEST_INGEST"

func TestMain(m *testing.M) {
	if path := os.Getenv(ingestForEver); path != "" {
		ingestUntilKilled(path, os.Args[1])
	}
	os.Exit(m.Run())
}

func ingestUntilKilled(path, from string) {
	n, err := strconv.Atoi(from)
	ctx, t := context.Background(), &testing.T{}
	s, openErr := store.Open(ctx, path, store.Options{})
	if err = errors.Join(err, openErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for ; ; n++ {
		if _, err := s.Ingest(ctx, killBatch(t, n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

const perKillBatch = 5

func killBatch(t testing.TB, n int) api.Batch {
	var records []api.Record
	for i := range perKillBatch {
		key := fmt.Sprintf("b%d-%d", n, i)
		records = append(records, storetest.Record(t, uint64(n*perKillBatch+i), api.RecordIncident, key, storetest.Incident(key)))
	}
	return storetest.Batch("a1", records...)
}

// TestKillLosesNothingAcknowledged ends the process at random moments, begins
// again one batch before the last acknowledged one, and at the end looks for
// every incident, once.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	next := 0
	for round := range 8 {
		next = killAfter(t, path, max(0, next-1), 3+round*2)
	}
	s := open(t, path)
	defer s.Close()
	seen := map[string]int{}
	for after := uint64(0); ; {
		page, err := s.Incidents(t.Context(), store.IncidentFilter{After: after, Oldest: true, Limit: store.MaxPage})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, i := range page {
			seen[i.Key]++
			after = i.ID
		}
	}
	for n := range next {
		for _, r := range killBatch(t, n).Records {
			if seen[r.Key] != 1 {
				t.Errorf("%s is stored %d times", r.Key, seen[r.Key])
			}
		}
	}
	if len(seen)%perKillBatch != 0 {
		t.Errorf("%d incidents: a batch was stored in part", len(seen))
	}
}

// killAfter runs the process until it acknowledged so many batches, and kills it.
func killAfter(t *testing.T, path string, from, batches int) (next int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], strconv.Itoa(from))
	cmd.Env = append(os.Environ(), ingestForEver+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next = from
	lines := bufio.NewScanner(out)
	for i := 0; i < batches && lines.Scan(); i++ {
		next++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // acknowledged while the signal was on its way
		next++
	}
	_ = cmd.Wait()
	if next == from {
		t.Fatal("the process stored nothing")
	}
	return next
}

func TestLockedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := store.Open(t.Context(), path, store.Options{BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	b := storetest.Batch("a1", storetest.Record(t, 1, api.RecordIncident, "k", storetest.Incident("k")))
	if _, err := s.Ingest(t.Context(), b); !errors.Is(err, store.ErrBusy) || !strings.Contains(err.Error(), path) {
		t.Errorf("locked: %v", err)
	}
	if _, err := s.Incidents(t.Context(), store.IncidentFilter{}); err != nil {
		t.Errorf("reading while another process writes: %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Ingest(t.Context(), b); err != nil || len(got.Incidents) != 1 {
		t.Errorf("after the lock: %+v %v", got, err)
	}
}

func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		testenv.Missing(t, "cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, filepath.Join(dir, "db"))
	defer s.Close()
	acknowledged := 0
	var err error
	for ; err == nil && acknowledged < 100_000; acknowledged++ {
		_, err = s.Ingest(t.Context(), killBatch(t, acknowledged))
	}
	acknowledged--
	if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "free space") {
		t.Fatalf("after %d batches: %v", acknowledged, err)
	}
	last, err := s.LastIncident(t.Context())
	if err != nil || last < uint64(acknowledged*perKillBatch) {
		t.Errorf("while full: %d incidents of %d acknowledged can be read (%v)", last, acknowledged*perKillBatch, err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Ingest(t.Context(), killBatch(t, acknowledged)); err != nil || len(got.Incidents) != perKillBatch {
		t.Errorf("after space was made: %+v %v", got, err)
	}
}

func TestDamagedFileIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), path, store.Options{})
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("got %v", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO schema_version (version) VALUES (999)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), path, store.Options{}); err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("got %v", err)
	}
}

// TestClockGoesBack: order is by arrival, and nothing is pruned for being young.
func TestClockGoesBack(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, key := range []string{"first", "second"} {
		b := storetest.Batch("a1", storetest.Record(t, uint64(i), api.RecordIncident, key, storetest.Incident(key)),
			storetest.Record(t, uint64(10+i), api.RecordEvent, "e"+key, event.Event{Kind: event.KindExec}))
		if _, err := s.Ingest(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		now = now.Add(-48 * time.Hour)
	}
	all, err := s.Incidents(t.Context(), store.IncidentFilter{})
	if err != nil || len(all) != 2 || all[0].Key != "second" {
		t.Errorf("%+v %v", all, err)
	}
	if n, err := s.PruneEvents(t.Context(), now.Add(-time.Hour), 0); err != nil || n != 0 {
		t.Errorf("pruned %d (%v)", n, err)
	}
	if hours, err := s.IncidentsPerHour(t.Context(), 24); err != nil || len(hours) != 24 {
		t.Errorf("%v %v", hours, err)
	}
}

func BenchmarkIngest(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "db"))
	defer s.Close()
	const batch = 500
	n := 0
	for b.Loop() {
		records := make([]api.Record, batch)
		for i := range records {
			n++
			key := strconv.Itoa(n)
			records[i] = storetest.Record(b, uint64(n), api.RecordEvent, key, event.Event{Key: key, Kind: event.KindExec,
				Process: &event.Process{ID: "1-2", PID: 1, Path: "/usr/bin/true"}, Exec: &event.Exec{Path: "/usr/bin/true"}, Container: &event.Container{ID: "c"}})
		}
		if _, err := s.Ingest(b.Context(), storetest.Batch("a1", records...)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
