package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/journal"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

var noon = time.Now().UTC().Add(-time.Hour)

func ev(n int) event.Event {
	return event.Event{Key: fmt.Sprintf("k%d", n), Kind: event.KindExec, Time: noon.Add(time.Duration(n) * time.Millisecond),
		Process: &event.Process{ID: "1-1", Path: "/bin/\xffsh", Args: []string{strings.Repeat("x", 100)}}, Exec: &event.Exec{Path: "/bin/sh\n"}}
}

// keys are those of all events but the journal's own.
func keys(t *testing.T, dir string, since time.Time) ([]string, journal.Seen) {
	t.Helper()
	var all []string
	seen, err := journal.Read(t.Context(), dir, since, func(e event.Event) error {
		if e.Kind == event.KindExec {
			all = append(all, e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, seen
}

func write(t *testing.T, dir string, bytes int64, from, to int) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, bytes)
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		j.Add(ev(n))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 0, 0, 500)
	write(t, dir, 0, 500, 1000) // another agent
	all, seen := keys(t, dir, time.Time{})
	if len(all) != 1000 || all[0] != "k0" || all[999] != "k999" || seen.Damaged != 0 || seen.Missing != 0 {
		t.Errorf("%d events, %+v", len(all), seen)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 1 {
		t.Errorf("%d segments after two starts: %v", len(files), err)
	}
	if some, _ := keys(t, dir, noon.Add(900*time.Millisecond)); len(some) != 100 {
		t.Errorf("%d events since", len(some))
	}
	n := 0
	if _, err := journal.Read(t.Context(), dir, time.Time{}, func(event.Event) error { n++; return journal.ErrStop }); err != nil || n != 1 {
		t.Errorf("%d events before the end: %v", n, err)
	}
	boom := errors.New("boom")
	if _, err := journal.Read(t.Context(), dir, time.Time{}, func(event.Event) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if _, err := journal.Read(t.Context(), filepath.Join(dir, "none"), time.Time{}, nil); err == nil {
		t.Error("there is no such folder")
	}
}

// TestTheRingHasABound: the oldest go, and what is kept is whole; what was dropped
// because it came too fast is counted exactly, and told in the journal.
func TestTheRingHasABound(t *testing.T) {
	dir := t.TempDir()
	const many = 40_000
	j := write(t, dir, journal.MinBytes, 0, many)
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		info, e := os.Stat(f)
		if e != nil {
			t.Fatal(e)
		}
		size += info.Size()
	}
	if err != nil || size > journal.MinBytes || size < journal.MinBytes/2 {
		t.Errorf("%d bytes in %d files: %v", size, len(files), err)
	}
	all, seen := keys(t, dir, time.Time{})
	if len(all) == 0 || seen.Damaged != 0 {
		t.Fatalf("%d events, %+v", len(all), seen)
	}
	accounts := map[event.Kind]journal.Account{}
	for _, a := range j.Accounts() {
		accounts[a.Kind] = a
	}
	if exec := accounts[event.KindExec]; exec.Emitted != many {
		t.Errorf("%+v", exec)
	}
}

func TestWhatIsDroppedIsCounted(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	const many = 60_000
	for n := range many {
		j.Add(ev(n))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all, seen := keys(t, dir, time.Time{})
	dropped := uint64(0)
	for _, a := range j.Accounts() {
		dropped += a.Dropped
	}
	if uint64(len(all))+dropped != many || seen.Missing != dropped {
		t.Errorf("%d stored and %d dropped of %d; the journal tells of %d", len(all), dropped, many, seen.Missing)
	}
}

// TestAFullDisk: what finds no room is counted, and told once there is room again;
// trying leaves no heap of empty segments.
func TestAFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	disk := t.TempDir()
	if err := syscall.Mount("breakwater-test", disk, "tmpfs", 0, "size=2m"); err != nil {
		testenv.Missing(t, "a file system of its own: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir := filepath.Join(disk, "events")
	j, err := journal.Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	dropped := func() (n uint64) {
		for _, a := range j.Accounts() {
			if a.Kind == event.KindExec {
				n = a.Dropped
			}
		}
		return n
	}
	many := 0
	for dropped() < 50 {
		before := dropped()
		j.Add(ev(many))
		many++
		if many > 20 { // the last page of the first segment had room for some
			for deadline := time.Now().Add(20 * time.Second); dropped() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("event %d is neither kept nor counted: %v", many, j.Err())
				}
			}
		}
	}
	if j.Err() == nil {
		t.Error("a full disk is no problem")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	j.Add(ev(many))
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	all, seen := keys(t, dir, time.Time{})
	if uint64(len(all))+dropped() != uint64(many+1) || seen.Missing != dropped() {
		t.Errorf("%d stored and %d dropped of %d; the journal tells of %d", len(all), dropped(), many+1, seen.Missing)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) > 3 {
		t.Errorf("%d segments: %v", len(files), err)
	}
}

// TestDamageIsPassedOver: a torn end, garbage and a changed byte cost their lines.
func TestDamageIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 0, 0, 10)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), "k3", "k4", 1)
	text = strings.Replace(text, "\n", "\ngarbage\n\n", 1)
	if err := os.WriteFile(files[0], []byte(text[:len(text)-20]), 0o640); err != nil {
		t.Fatal(err)
	}
	write(t, dir, 0, 10, 12)
	if all, seen := keys(t, dir, time.Time{}); len(all) != 10 || seen.Damaged != 4 {
		t.Errorf("%q, %+v", all, seen)
	}
}

// TestFollowing: whoever follows gets everything once, over the border of segments
// and of agents.
func TestFollowing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, journal.MinBytes, 0, 10)
	got := make(chan string, 20_000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := journal.Follow(ctx, dir, time.Time{}, func(e event.Event) error {
			if e.Kind == event.KindExec {
				got <- e.Key
			}
			return nil
		})
		done <- err
	}()
	want := 0
	expect := func(to int) {
		for ; want < to; want++ {
			select {
			case key := <-got:
				if key != fmt.Sprintf("k%d", want) {
					t.Fatalf("got %s, want k%d", key, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("k%d never came", want)
			}
		}
	}
	expect(10)
	for n := 10; n < 1000; n += 110 { // less than a segment each
		write(t, dir, journal.MinBytes, n, n+110)
		expect(n + 110)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	j, err := journal.Open(dir, 0)
	if err != nil {
		f.Fatal(err)
	}
	j.Add(ev(1))
	if err := j.Close(); err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("00000000 {}\n\n12345678 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(files[0])), data, 0o640); err != nil {
			t.Fatal(err)
		}
		seen, err := journal.Read(t.Context(), dir, time.Time{}, func(event.Event) error { return nil })
		if err != nil || int(seen.Events+seen.Damaged) > strings.Count(string(data), "\n")+1 {
			t.Errorf("%+v, %v", seen, err)
		}
	})
}
