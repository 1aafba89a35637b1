package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/spool"
)

func open(t testing.TB, dir string, o spool.Options) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t testing.TB, s *spool.Spool, kind api.RecordKind, key string) uint64 {
	t.Helper()
	seq, err := s.Append(t.Context(), kind, key, time.Unix(1, 2), []byte(`{"k":"`+key+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// all reads everything after a number up to and including the number last.
func all(t testing.TB, s *spool.Spool, after, last uint64) []api.Record {
	t.Helper()
	var out []api.Record
	for after < last {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		records, err := s.Read(ctx, after, 7, 1<<20)
		cancel()
		if err != nil {
			t.Fatalf("read after %d: %v", after, err)
		}
		for _, r := range records {
			if r.Sequence <= after {
				t.Fatalf("number %d after %d", r.Sequence, after)
			}
			after = r.Sequence
		}
		out = append(out, records...)
	}
	return out
}

func keys(records []api.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%d:%s ", r.Sequence, r.Key)
	}
	return strings.TrimSpace(b.String())
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRecordsSurviveARestartWithTheirNumbers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	add(t, s, api.RecordEvent, "a")
	add(t, s, api.RecordIncident, "b")
	epoch := s.Epoch()
	s.Close()

	s = open(t, dir, spool.Options{})
	add(t, s, api.RecordReport, "c")
	got := all(t, s, 0, 3)
	if keys(got) != "1:a 2:b 3:c" {
		t.Errorf("got %s", keys(got))
	}
	if string(got[1].Body) != `{"k":"b"}` || !got[1].Time.Equal(time.Unix(1, 2)) || got[1].Kind != api.RecordIncident {
		t.Errorf("record changed: %+v", got[1])
	}
	if s.Epoch() != epoch {
		t.Error("a clean restart took a new epoch")
	}
}

func TestNumbersGoOnAfterEverythingWasCommitted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{MaxBytes: 64 << 10})
	var last uint64
	for i := range 900 {
		last = add(t, s, api.RecordEvent, fmt.Sprintf("key-%04d", i))
		if i%50 == 49 {
			all(t, s, s.Committed(), last)
			if err := s.Commit(last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(segments(t, dir)); n > 2 {
		t.Errorf("%d segments left after the commit of everything", n)
	}
	s.Close()
	s = open(t, dir, spool.Options{MaxBytes: 64 << 10})
	if seq := add(t, s, api.RecordEvent, "next"); seq != last+1 {
		t.Errorf("next number is %d, want %d", seq, last+1)
	}
	if a := s.Accounts().Of(api.RecordEvent); a.Stored != 901 || a.Dropped != 0 {
		t.Errorf("account %+v", a)
	}
	if s.Committed() != last {
		t.Errorf("committed %d, want %d", s.Committed(), last)
	}
}

func TestFullSpoolDropsTelemetryNeverIncidents(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{MaxBytes: 64 << 10})
	body := []byte(`"` + strings.Repeat("x", 1000) + `"`)
	var stored, dropped uint64
	for i := range 100 {
		_, err := s.Append(t.Context(), api.RecordEvent, fmt.Sprint(i), time.Now(), body)
		switch {
		case err == nil:
			stored++
		case errors.Is(err, spool.ErrFull):
			dropped++
		default:
			t.Fatal(err)
		}
	}
	if dropped == 0 {
		t.Fatal("100 KB went into four fifths of 64 KiB")
	}
	for i := range 100 {
		if _, err := s.Append(t.Context(), api.RecordIncident, fmt.Sprint("i", i), time.Now(), body); err != nil {
			t.Fatalf("incident %d: %v", i, err)
		}
	}
	check := func(s *spool.Spool) {
		t.Helper()
		a := s.Accounts()
		if e := a.Of(api.RecordEvent); e.Stored != stored || e.Dropped != dropped {
			t.Errorf("events: %+v, want %d stored, %d dropped", e, stored, dropped)
		}
		if i := a.Of(api.RecordIncident); i.Stored != 100 || i.Dropped != 0 {
			t.Errorf("incidents: %+v", i)
		}
	}
	check(s)
	s.Close()
	s = open(t, dir, spool.Options{MaxBytes: 64 << 10})
	check(s)
	all(t, s, 0, stored+100)
	if err := s.Commit(stored + 100); err != nil {
		t.Fatal(err)
	}
	add(t, s, api.RecordEvent, "room again")
	stored++
	check(s)
}

func TestSecondOpenerIsToldWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, spool.Options{})
	_, err := spool.Open(dir, spool.Options{})
	if want := fmt.Sprintf("in use by pid %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestInvalidRecordsAreRefused(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	for name, c := range map[string]struct {
		kind api.RecordKind
		key  string
		body string
	}{
		"kind":      {"rumour", "k", "{}"},
		"no key":    {api.RecordEvent, "", "{}"},
		"long key":  {api.RecordEvent, strings.Repeat("k", spool.MaxKey+1), "{}"},
		"no JSON":   {api.RecordEvent, "k", "{"},
		"long body": {api.RecordIncident, "k", `"` + strings.Repeat("x", spool.MaxBody) + `"`},
	} {
		if _, err := s.Append(t.Context(), c.kind, c.key, time.Now(), []byte(c.body)); !errors.Is(err, spool.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if seq := add(t, s, api.RecordEvent, "good"); seq != 1 {
		t.Errorf("a refused record took a number: %d", seq)
	}
}

func TestReadWaitsForTheNextRecord(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{SyncEvery: time.Hour})
	got := make(chan []api.Record, 1)
	go func() {
		r, _ := s.Read(t.Context(), 0, 10, 1<<20)
		got <- r
	}()
	add(t, s, api.RecordIncident, "late")
	if r := <-got; keys(r) != "1:late" {
		t.Errorf("got %s", keys(r))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx, 1, 10, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.Close()
	if _, err := s.Read(t.Context(), 0, 1, 1); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestLargestRecordIsReadBack(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	body := `"` + strings.Repeat("x", spool.MaxBody-2) + `"`
	add(t, s, api.RecordEvent, "before")
	if _, err := s.Append(t.Context(), api.RecordReport, "large", time.Now(), []byte(body)); err != nil {
		t.Fatal(err)
	}
	add(t, s, api.RecordEvent, "after")
	got := all(t, s, 0, 3)
	if keys(got) != "1:before 2:large 3:after" || string(got[1].Body) != body {
		t.Errorf("got %s", keys(got))
	}
}
