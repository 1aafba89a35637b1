package evidence_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/evidence"
	"github.com/breakwater-sec/breakwater/internal/journal"
)

func incident(key string, at time.Time) event.Incident {
	c := &event.Container{ID: strings.Repeat("c0ffee", 10) + key, Name: "web"}
	p := &event.Process{ID: "1-1", PID: 1 << 30}
	return event.Incident{Key: key, Time: at, Host: "h", Severity: event.SeverityHigh, Container: c, Event: event.Event{Key: key, Container: c, Process: p}}
}

// contents reads a bundle.
func contents(t *testing.T, s *evidence.Store, key string) (evidence.Manifest, map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := s.Bundle(t.Context(), key, &b); err != nil {
		t.Fatal(err)
	}
	m, err := evidence.Verify(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	in := tar.NewReader(&b)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return m, files
		}
		text, readErr := io.ReadAll(in)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		files[h.Name] = string(text)
	}
}

func open(t *testing.T) (s *evidence.Store, dir string) {
	t.Helper()
	dir = t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "events"), 0)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	for n, at := range []time.Duration{-time.Hour, -10 * time.Second, 0, 10 * time.Second, time.Hour} {
		for _, key := range []string{"k1", "other"} {
			ev := incident(key, now.Add(at)).Event
			ev.Key, ev.Kind, ev.Time = fmt.Sprintf("%s-%d", key, n), event.KindExec, now.Add(at)
			j.Add(ev)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = evidence.Open(filepath.Join(dir, "evidence"), filepath.Join(dir, "events"), 0)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// TestABundleTellsWhatItHolds: the events around it and of its container alone, what
// could not be had in words, and every hash right; it outlives the agent.
func TestABundleTellsWhatItHolds(t *testing.T) {
	s, dir := open(t)
	inc := incident("k1", time.Now().UTC())
	if err := errors.Join(s.Look(t.Context(), inc), s.Note(inc)); err != nil {
		t.Fatal(err)
	}
	again, err := evidence.Open(filepath.Join(dir, "evidence"), filepath.Join(dir, "events"), 0)
	if err != nil {
		t.Fatal(err)
	}
	m, files := contents(t, again, "k1")
	var keys []string
	for text := range strings.Lines(files["events.jsonl"]) {
		var ev event.Event
		if err := json.Unmarshal([]byte(text), &ev); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, ev.Key)
	}
	if strings.Join(keys, " ") != "k1-1 k1-2 k1-3" {
		t.Errorf("events %q", keys)
	}
	gaps := strings.Join(m.Gaps, "\n")
	if !strings.Contains(gaps, "no process of the container was alive") || !strings.Contains(gaps, "were not over") {
		t.Errorf("gaps %q", gaps)
	}
	if files["incident-000.json"] == "" || files["processes-01.json"] == "" || m.Story != "k1" || len(m.Entries) != 3 {
		t.Errorf("%+v", m)
	}
	low := incident("low", time.Now())
	low.Severity = event.SeverityLow
	if err := errors.Join(s.Look(t.Context(), low), s.Note(low)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"low", "nothing", "../../etc"} {
		if err := s.Bundle(t.Context(), key, io.Discard); !errors.Is(err, evidence.ErrNone) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestVerifyFindsChanges: a bundle that was changed, cut or added to is not right.
func TestVerifyFindsChanges(t *testing.T) {
	s, _ := open(t)
	inc := incident("k1", time.Now().UTC())
	if err := errors.Join(s.Look(t.Context(), inc), s.Note(inc)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Bundle(t.Context(), "k1", &b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	at := bytes.Index(whole, []byte(`"key":"k1-2"`))
	changed := bytes.Clone(whole)
	changed[at+9]++
	for name, bad := range map[string][]byte{"changed": changed, "cut": whole[:at], "empty": nil, "text": []byte("hello"), "header": whole[512:]} {
		if _, err := evidence.Verify(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: it is right", name)
		}
	}
}

// TestStoriesAreBounded: many at once cost no more than the bound.
func TestStoriesAreBounded(t *testing.T) {
	s, dir := open(t)
	failed := 0
	for n := range 100 {
		inc := incident(fmt.Sprintf("n%d", n), time.Now())
		if err := s.Look(t.Context(), inc); err != nil {
			failed++
		}
		if err := s.Note(inc); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadDir(filepath.Join(dir, "evidence"))
	if err != nil || len(kept) != 60 || failed != 40 {
		t.Errorf("%d stories kept, %d refused: %v", len(kept), failed, err)
	}
}

// TestTheOldestEvidenceGoes when there is no room.
func TestTheOldestEvidenceGoes(t *testing.T) {
	_, dir := open(t)
	s, err := evidence.Open(filepath.Join(dir, "small"), filepath.Join(dir, "events"), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k1", "k2", "k3"} {
		inc := incident(key, time.Now())
		if err := errors.Join(s.Look(t.Context(), inc), s.Note(inc)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Bundle(t.Context(), "k1", io.Discard); !errors.Is(err, evidence.ErrNone) {
		t.Errorf("the oldest: %v", err)
	}
	if err := s.Bundle(t.Context(), "k3", io.Discard); err != nil {
		t.Errorf("the newest: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := `{"schema": 1, "entries": [{"name": "a", "size": 1, "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}]}`
	for name, body := range map[string]string{"manifest.json": text} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o600}); err != nil {
			f.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: 1, Mode: 0o600}); err != nil {
		f.Fatal(err)
	}
	if _, err := io.WriteString(w, "a"); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := evidence.Verify(bytes.NewReader(data)); err == nil && m.Schema != evidence.Schema {
			t.Error("another schema is right")
		}
	})
}
