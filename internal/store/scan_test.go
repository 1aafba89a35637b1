package store_test

import (
	"path/filepath"
	"testing"
	"time"

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
	if err := s.PutMatched(ctx, rep); err != nil || !put(rep) || known() {
		t.Errorf("after new intelligence it is the server's own word: %v", err)
	}
	if err := s.PutReport(ctx, rep); err != nil || put(rep) || !known() {
		t.Errorf("what the server read: %v", err)
	}
	if err := s.PutMatched(ctx, rep); err != nil || put(rep) || !known() {
		t.Errorf("what the server read, matched again: %v", err)
	}
}
