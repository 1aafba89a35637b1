package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// TestAPipelinesWordStaysOne: what a pipeline says of an image keeps nobody from
// reading it, and no new intelligence makes it the server's own.
func TestAPipelinesWordStaysOne(t *testing.T) {
	s, ctx := open(t, filepath.Join(t.TempDir(), "breakwater.db")), t.Context()
	put := func(rep report.Report) bool {
		t.Helper()
		kept, err := s.PutScan(ctx, rep, store.Actor{Name: "ci/build"})
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	rep := storetest.Report(storetest.Digest("a"), time.Unix(1000, 0))
	known := func() bool {
		t.Helper()
		known, err := s.AddReference(ctx, rep.Image.Digest, "registry.example/app:1")
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	if !put(rep) || known() {
		t.Error("what only a pipeline said counts as read")
	}
	stored := func() store.Image {
		t.Helper()
		img, _, err := s.Image(ctx, rep.Image.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	matched := func(img store.Image) error {
		_, err := s.KeepJudged(ctx, []store.Judged{{Digest: img.Digest, Pipeline: img.Pipeline, Matched: true, Bundle: &report.Intelligence{Version: "2"}}})
		return err
	}
	word := stored()
	if err := matched(word); err != nil || !put(rep) || known() || word.Pipeline != "ci/build" {
		t.Errorf("after new intelligence it is the server's own word: %+v %v", word, err)
	}
	if err := s.PutReport(ctx, rep); err != nil || put(rep) || !known() || stored().Pipeline != "" {
		t.Errorf("what the server read: %v", err)
	}
	if err := matched(stored()); err != nil || put(rep) || !known() {
		t.Errorf("what the server read, matched again: %v", err)
	}
	if err := s.PutReport(ctx, rep); err != nil {
		t.Fatal(err)
	}
	if err := matched(word); err != nil || stored().Findings == 0 {
		t.Errorf("a pipeline's word, matched while the server read the image, replaced what it read: %v", err)
	}
}

// TestAPipelineForgesNoTurn: "allowed, then refused" is told of what a host or
// the server read, never of two reports of a pipeline, nor of one after another.
func TestAPipelineForgesNoTurn(t *testing.T) {
	s, ctx := open(t, filepath.Join(t.TempDir(), "breakwater.db")), t.Context()
	rep := storetest.Report(storetest.Digest("a"), time.Unix(1000, 0))
	if err := s.AddAgent(ctx, store.Agent{ID: "a1", Host: "harbour-1", NKey: "UW"}, store.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	runs := event.HostStatus{Host: "harbour-1", Containers: []event.Guarded{{Container: event.Container{ID: "c1", Name: "web-1", Image: rep.Image}, Mode: "enforce"}}}
	if err := s.PutStatus(ctx, "a1", runs); err != nil {
		t.Fatal(err)
	}
	stored := func() store.Image {
		t.Helper()
		img, _, err := s.Image(ctx, rep.Image.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	turned := func(img store.Image, v event.Verdict) int {
		t.Helper()
		incidents, err := s.Judge(ctx, img, v)
		if err != nil {
			t.Fatal(err)
		}
		return len(incidents)
	}
	allowed, refused := event.Verdict{Allowed: true}, *rep.Verdict
	send := func(v event.Verdict) {
		t.Helper()
		rep.Verdict = &v
		if kept, err := s.PutScan(ctx, rep, store.Actor{Name: "ci/build"}); err != nil || !kept {
			t.Fatalf("%v %v", kept, err)
		}
	}
	send(allowed)
	send(refused)
	send(allowed)
	word := stored()
	if turned(word, refused) != 0 || turned(word, allowed) != 0 {
		t.Error("a pipeline's word turned a running image")
	}
	if all, err := s.Incidents(ctx, store.IncidentFilter{}); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
	if history, err := s.Verdicts(ctx, rep.Image.Digest); err != nil || len(history) != 4 {
		t.Errorf("the history of its verdicts: %+v %v", history, err)
	}
	if _, err := s.Ingest(ctx, storetest.Batch("a1", storetest.Record(t, 1, api.RecordReport, "r1", rep))); err != nil {
		t.Fatal(err)
	}
	if turned(stored(), refused) != 0 {
		t.Error("the pipeline's report passed, the host's does not: policy never allowed the image")
	}
	if turned(word, allowed) != 0 || stored().Verdict.Allowed {
		t.Error("a verdict on the pipeline's word counts for what the host reported since")
	}
	if turned(stored(), allowed) != 0 || turned(stored(), refused) != 1 {
		t.Error("what a host reported does not turn")
	}
}
