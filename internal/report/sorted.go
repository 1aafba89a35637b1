package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// counts says "2 critical, 5 high" for the severities that occur.
func counts(findings []event.Finding) string {
	n := map[event.Severity]int{}
	for _, f := range findings {
		n[f.Severity]++
	}
	var parts []string
	for _, s := range severitiesDown() {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

func severitiesDown() []event.Severity {
	return []event.Severity{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow, event.SeverityNegligible, event.SeverityUnknown}
}

// ecosystems says "Debian:12 206, npm 665".
func ecosystems(packages []event.Package) string {
	n := map[string]int{}
	for _, p := range packages {
		n[p.Ecosystem]++
	}
	var names []string
	for name := range n {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", Printable(name), n[name])
	}
	return strings.Join(names, ", ")
}

// plural is "1 package", "2 packages".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Sentence sums the report up in one plain sentence.
func (r *Report) Sentence() string {
	var what string
	switch {
	case r.Intelligence == nil && len(r.Packages) == 0:
		what = "no packages found"
	case r.Intelligence == nil:
		what = plural(len(r.Packages), "package", "packages") + " found; their vulnerabilities are not known without intelligence: run `breakwater intel update`"
	case len(r.Findings) == 0:
		what = fmt.Sprintf("no known vulnerability in %s", plural(len(r.Packages), "package", "packages"))
	default:
		what = fmt.Sprintf("%s in %s (%s), %d with a fix", plural(len(r.Findings), "vulnerability", "vulnerabilities"),
			plural(len(r.Packages), "package", "packages"), counts(r.Findings), fixable(r.Findings))
	}
	return fmt.Sprintf("%s %s: %s.", Printable(r.name()), r.outcome(), what)
}

func (r *Report) name() string {
	if r.Target != "" {
		return r.Target
	}
	return r.Image.Name()
}

func (r *Report) outcome() string {
	v := r.Verdict
	switch {
	case v == nil || len(v.Policies) == 0:
		return "was not judged by any policy"
	case !v.Allowed:
		return "is refused by policy"
	case len(v.Violations) > 0:
		return "is allowed, with violations that are only recorded"
	}
	return "is allowed by policy"
}

func fixable(findings []event.Finding) (n int) {
	for _, f := range findings {
		if f.FixedVersion != "" {
			n++
		}
	}
	return n
}
