package report_test

import (
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// TestSetMatched: new intelligence replaces what the one before could not
// judge, never what could not be read.
func TestSetMatched(t *testing.T) {
	r := report.Report{Gaps: []string{"layer 1: cannot be read"}}
	r.SetMatched(nil, nil, []string{"no bundle"})
	if want := []string{"layer 1: cannot be read", "no bundle"}; !slices.Equal(r.Gaps, want) {
		t.Errorf("got %q, want %q", r.Gaps, want)
	}
	r.SetMatched([]event.Finding{{ID: "CVE-1"}}, &report.Intelligence{Version: "2"}, []string{"Haiku has no advisories"})
	if want := []string{"layer 1: cannot be read", "Haiku has no advisories"}; !slices.Equal(r.Gaps, want) || len(r.Findings) != 1 || r.Intelligence == nil {
		t.Errorf("got %q %v, want %q", r.Gaps, r.Findings, want)
	}
	r.SetMatched(nil, r.Intelligence, nil)
	if want := []string{"layer 1: cannot be read"}; !slices.Equal(r.Gaps, want) {
		t.Errorf("got %q, want %q", r.Gaps, want)
	}
}
