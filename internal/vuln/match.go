package vuln

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Hit is one advisory that means the version of a package.
type Hit struct {
	Advisory Advisory
	State    event.FixState
	Fixed    string
	// Severity is what the publisher says of this package and release, else
	// the advisory's.
	Severity       event.Severity
	SeveritySource string
}

// NewHit is the hit of an advisory on a package that Affects said yes for.
func NewHit(advisory Advisory, affected *Affected, fixed string) Hit {
	h := Hit{Advisory: advisory, State: affected.State, Fixed: fixed,
		Severity: advisory.Severity, SeveritySource: advisory.SeveritySource}
	if h.State == "" {
		h.State = event.FixAffected
		if fixed != "" {
			h.State = event.FixFixed
		}
	}
	if affected.Severity != "" {
		h.Severity, h.SeveritySource = affected.Severity, advisory.Source
	}
	return h
}

// Merge makes one finding of all hits on one package that share an id or an
// alias, directly or over others. The distribution's word counts before GitHub's
// and that before others', for state, fix and severity alike; a missing word is
// taken from the next. Findings are sorted by id.
func Merge(pkg event.Package, hits []Hit) []event.Finding {
	var findings []event.Finding
	for _, group := range groups(hits) {
		findings = append(findings, finding(pkg, group))
	}
	slices.SortFunc(findings, func(a, b event.Finding) int { return cmp.Compare(a.ID, b.ID) })
	return findings
}

// groups partitions hits by shared ids, keeping each group in order of trust.
func groups(hits []Hit) [][]Hit {
	hits = slices.Clone(hits)
	slices.SortStableFunc(hits, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(trust(a), trust(b)), cmp.Compare(a.Advisory.ID, b.Advisory.ID))
	})
	parent := make([]int, len(hits))
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	owner := map[string]int{}
	for i, h := range hits {
		parent[i] = i
		for _, id := range append([]string{h.Advisory.ID}, h.Advisory.Aliases...) {
			if first, ok := owner[id]; ok {
				a, b := root(first), root(i)
				parent[max(a, b)] = min(a, b)
			} else {
				owner[id] = i
			}
		}
	}
	byRoot := make([][]Hit, len(hits))
	for i, h := range hits {
		r := root(i)
		byRoot[r] = append(byRoot[r], h)
	}
	return slices.DeleteFunc(byRoot, func(g []Hit) bool { return len(g) == 0 })
}

// trust ranks publishers, the most trusted first.
func trust(h Hit) int {
	switch {
	case h.Advisory.Source != "osv":
		return 0
	case strings.HasPrefix(h.Advisory.ID, "GHSA-"):
		return 1
	}
	return 2
}

func finding(pkg event.Package, group []Hit) event.Finding {
	first := group[0]
	f := event.Finding{
		Package: pkg, State: first.State, FixedVersion: first.Fixed, Source: first.Advisory.Source,
		Severity: event.SeverityUnknown, URL: first.Advisory.URL,
	}
	ids := map[string]bool{}
	for _, h := range group {
		ids[h.Advisory.ID] = true
		for _, alias := range h.Advisory.Aliases {
			ids[alias] = true
		}
		f.Title = cmp.Or(f.Title, h.Advisory.Title)
		f.URL = cmp.Or(f.URL, h.Advisory.URL)
		f.CVSS = cmp.Or(f.CVSS, h.Advisory.CVSS)
		if r, ok := h.rating(); ok {
			f.Ratings = append(f.Ratings, r)
		}
		if f.FixedVersion == "" && h.Fixed != "" && first.Advisory.Source == "osv" {
			f.FixedVersion, f.State = h.Fixed, event.FixFixed
		}
		if f.Published.IsZero() {
			f.Published = h.Advisory.Published
		}
	}
	f.Severity, f.SeveritySource = severity(group)
	f.ID, f.Aliases = preferred(ids)
	Rate(&f, nil)
	return f
}

// severity takes publishers' own words before computed ones.
func severity(group []Hit) (event.Severity, string) {
	var computed Hit
	for _, h := range group {
		if h.Severity.Rank() <= event.SeverityUnknown.Rank() {
			continue
		}
		if !strings.HasPrefix(h.SeveritySource, "cvss-") {
			return h.Severity, h.SeveritySource
		}
		if computed.Severity == "" {
			computed = h
		}
	}
	if computed.Severity == "" {
		return event.SeverityUnknown, ""
	}
	return computed.Severity, computed.SeveritySource
}

// preferred picks the name that people know: the lowest CVE, else a GHSA, else
// the lowest id; the others are aliases, sorted.
func preferred(ids map[string]bool) (id string, aliases []string) {
	for name := range ids {
		aliases = append(aliases, name)
	}
	slices.SortFunc(aliases, func(a, b string) int {
		return cmp.Or(cmp.Compare(idRank(a), idRank(b)), cmp.Compare(a, b))
	})
	id, aliases = aliases[0], aliases[1:]
	slices.Sort(aliases)
	return id, aliases
}

func idRank(id string) int {
	switch {
	case strings.HasPrefix(id, "CVE-"):
		return 0
	case strings.HasPrefix(id, "GHSA-"):
		return 1
	}
	return 2
}
