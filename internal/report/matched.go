package report

import (
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// SetMatched puts what matching with intelligence gave in the place of what an
// earlier matching gave. What could not be read stays a gap. Used is nil when
// there was no intelligence.
func (r *Report) SetMatched(findings []event.Finding, used *Intelligence, gaps []string) {
	r.Gaps = slices.DeleteFunc(r.Gaps, func(g string) bool { return slices.Contains(r.Unmatched, g) })
	r.Gaps = append(r.Gaps, gaps...)
	r.Findings, r.Intelligence, r.Unmatched = findings, used, slices.Clone(gaps)
}
