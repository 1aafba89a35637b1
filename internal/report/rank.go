package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// likely is the probability of exploitation from which on it counts more than
// severity: FIRST's own examples treat a tenth as the mark above which few
// vulnerabilities lie, and most that are exploited.
const likely = 0.1

// Order compares two findings by what to look at first: known to be exploited,
// then likely to be (EPSS), then by severity, then those with a fix, then what
// is installed before what a lock file only names. Findings that are alike in
// all of that stand by package and id.
func Order(a, b *event.Finding) int {
	return cmp.Or(
		-compareBool(a.KnownExploited, b.KnownExploited),
		-cmp.Compare(soon(a), soon(b)),
		-cmp.Compare(a.Severity.Rank(), b.Severity.Rank()),
		-compareBool(a.FixedVersion != "", b.FixedVersion != ""),
		compareBool(a.Package.Locked, b.Package.Locked),
		-cmp.Compare(a.EPSS, b.EPSS),
		strings.Compare(a.Package.Name, b.Package.Name),
		strings.Compare(a.ID, b.ID),
		strings.Compare(a.Package.Version, b.Package.Version),
		strings.Compare(a.Package.Path, b.Package.Path),
	)
}

// soon is the probability of exploitation when it is high enough to lead.
func soon(f *event.Finding) float64 {
	if f.EPSS < likely {
		return 0
	}
	return f.EPSS
}

// byRank is the findings in their order, the first to look at first.
func byRank(findings []event.Finding) []event.Finding {
	out := slices.Clone(findings)
	slices.SortStableFunc(out, func(a, b event.Finding) int { return Order(&a, &b) })
	return out
}

// Reason says in one sentence why a finding stands where Order puts it.
func Reason(f *event.Finding) string {
	var why string
	switch {
	case f.KnownExploited:
		why = "is known to be exploited"
	case f.EPSS >= likely:
		why = fmt.Sprintf("is exploited within 30 days with a probability of %.0f%% (EPSS)", f.EPSS*100)
	default:
		why = "is " + cmp.Or(string(f.Severity), "of unknown severity")
		if f.SeveritySource != "" {
			why += " (" + f.SeveritySource + ")"
		}
		if f.EPSS > 0 {
			why += fmt.Sprintf(", exploited within 30 days with %.1f%% (EPSS)", f.EPSS*100)
		}
	}
	if f.Package.Locked {
		why += ", is named by a lock file"
	}
	if f.FixedVersion != "" {
		return why + ", and has a fix"
	}
	return why + ", and " + noFix(f.State)
}

func noFix(s event.FixState) string {
	switch s {
	case event.FixWontFix:
		return "its publisher will not fix it"
	case event.FixDeferred:
		return "its fix is deferred"
	case event.FixInvestigating:
		return "is still being looked into"
	case event.FixEndOfLife:
		return "gets no fix any more: end of life"
	}
	return "has no fix yet"
}
