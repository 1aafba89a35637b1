package sensor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func refusal(key string) event.Event {
	return event.Event{Key: key, Kind: event.KindFileOpen, Process: &event.Process{ID: "7-1", PID: 7},
		Decision: &event.Decision{Control: event.ControlDetection, Outcome: event.Prevented, Why: "Refused."}}
}

// What a killed agent was over is found again, also beside a line that was cut
// off, and a refusal that was perhaps not given is not told as one.
func TestJournalOfAKilledAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asked")
	j, left, err := openJournal(path)
	if err != nil || len(left) != 0 {
		t.Fatalf("%v %v", left, err)
	}
	j.keep(refusal("said"))
	j.answered(refusal("said"))
	j.keep(refusal("unsaid"))
	j.keep(event.Event{Key: "told", Kind: event.KindFileOpen})
	j.dealt() // with one of them: the others are still to be told
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"event":{"key":"cut o`); err != nil {
		t.Fatal(err)
	}
	f.Close()

	j, left, err = openJournal(path)
	if err != nil || len(left) != 3 {
		t.Fatalf("%+v %v", left, err)
	}
	if d := left[0].Decision; left[0].Key != "said" || d.Outcome != event.Prevented || left[0].Process.PID != 7 {
		t.Errorf("%+v", left[0])
	}
	if d := left[1].Decision; left[1].Key != "unsaid" || d.Outcome != event.Detected || !strings.Contains(d.Why, "may have let it pass") {
		t.Errorf("%+v", left[1])
	}
	for range left {
		j.dealt()
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
	if _, left, err := openJournal(path); err != nil || len(left) != 0 {
		t.Errorf("after all was dealt with: %v %v", left, err)
	}
}

// Nobody deals with anything: the file does not grow without end.
func TestJournalIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asked")
	j, _, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	long := event.Event{Key: "k", File: &event.File{Path: strings.Repeat("x", 1<<16)}}
	for range 2 * maxJournal >> 16 {
		j.keep(long)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxJournal || info.Size() < maxJournal/2 {
		t.Errorf("%v %v", info, err)
	}
}

// A line that was cut off, by a kill or a full disk, takes none behind it along.
func TestJournalAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asked")
	if err := os.WriteFile(path, []byte(`{"event":{"key":"a"}}`+"\n"+`{"event":{"ke`), 0o600); err != nil {
		t.Fatal(err)
	}
	j, left, err := openJournal(path)
	if err != nil || len(left) != 1 {
		t.Fatalf("%v %v", left, err)
	}
	j.keep(event.Event{Key: "b"})
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if _, left, err = openJournal(path); err != nil || len(left) != 2 || left[1].Key != "b" {
		t.Errorf("%v %v", left, err)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"event":{"key":"a","kind":"file_open","decision":{"outcome":"prevented"}}}` + "\n" + `{"answered":"a"}` + "\n{"))
	f.Add([]byte("null\n{}\n\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, ev := range readJournal(raw) {
			if d := ev.Decision; d != nil && d.Outcome == event.Prevented && !strings.Contains(string(raw), "answered") {
				t.Errorf("%+v was refused, and nobody said so", ev)
			}
		}
	})
}
