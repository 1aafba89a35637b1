package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func (t *table) packages(r *Report) {
	groups := grouped(r.Packages, sameProgram)
	if len(groups) > manyPackages && !t.all {
		t.line("")
		t.line("%s", t.paint(fmt.Sprintf("%d different packages; --all lists them, --format html shows them in a browser", len(groups)), dim))
		return
	}
	many, layers := several(groups), layersOf(r)
	var rows [][]cell
	for _, g := range groups {
		p := g.first
		rows = append(rows, append([]cell{{p.Name, ""}, {p.Version, ""}, {p.Ecosystem, ""}}, whereOf(g, p, many, layers)...))
	}
	t.grid(append([]string{"PACKAGE", "VERSION", "ECOSYSTEM"}, whereTitles(many, layers)...), rows)
}

// packageFindings is what was found in one package.
type packageFindings struct {
	pkg      event.Package
	findings []event.Finding // ranked, each once
	files    map[string]bool
	ids      map[string]bool
}

// byPackage groups findings, the package that holds the first to look at first.
func byPackage(findings []event.Finding) []packageFindings {
	var out []packageFindings
	known := map[string]int{}
	for _, f := range byRank(findings) {
		key := sameProgram(&f.Package)
		i, ok := known[key]
		if !ok {
			i = len(out)
			known[key] = i
			out = append(out, packageFindings{pkg: f.Package, files: map[string]bool{}, ids: map[string]bool{}})
		}
		p := &out[i]
		p.files[f.Package.Layer+"\x00"+f.Package.Path] = true
		if !p.ids[f.ID] {
			p.ids[f.ID] = true
			p.findings = append(p.findings, f)
		}
	}
	return out
}

// findingsByPackage is for images with more findings than anybody reads.
func (t *table) findingsByPackage(r *Report) {
	var rows [][]cell
	all, layers := byPackage(r.Findings), layersOf(r)
	many := slices.ContainsFunc(all, func(p packageFindings) bool { return len(p.files) > 1 })
	for _, p := range all {
		worst, exploited := event.Severity(""), 0
		for _, f := range p.findings {
			if f.Severity.Rank() > worst.Rank() {
				worst = f.Severity
			}
			if f.KnownExploited {
				exploited++
			}
		}
		n := counts(p.findings)
		if exploited > 0 {
			n += fmt.Sprintf(", %d exploited", exploited)
		}
		fix := cell{fmt.Sprintf("%d of %d", fixable(p.findings), len(p.findings)), green}
		if fixable(p.findings) == 0 {
			fix = cell{"none", dim}
		}
		row := []cell{{string(worst), severityColour(worst)}, {p.pkg.Name, ""}, {p.pkg.Version, ""}, {n, ""}, fix}
		rows = append(rows, append(row, whereOf(group[string]{all: make([]string, len(p.files))}, p.pkg, many, layers)...))
	}
	t.grid(append([]string{"WORST", "PACKAGE", "VERSION", "VULNERABILITIES", "WITH A FIX"}, whereTitles(many, layers)...), rows)
	t.line("%s", t.paint(fmt.Sprintf("%d vulnerabilities, by package; --all names each", len(r.Findings)), dim))
}

func (t *table) misconfigurations(all []event.Misconfiguration) {
	if len(all) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint("misconfigurations", bold))
	for _, m := range worst(all, func(m event.Misconfiguration) event.Severity { return m.Severity }) {
		x := misconfigurationIssue(&m)
		const column = 12 // of what follows the severity
		line := fmt.Sprintf("  %s  %s %s", t.paint(fmt.Sprintf("%-8s", m.Severity), severityColour(m.Severity)), Printable(x.title), t.paint(Printable("("+joined(", ", m.ID, x.where)+")"), dim))
		t.whole("%s", hang(line, column, t.width))
		if m.Remediation != "" {
			t.line("%sway out: %s", strings.Repeat(" ", column), Printable(m.Remediation))
		}
	}
}

func (t *table) signatures(all []event.Signature) {
	if len(all) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint("signatures", bold))
	for _, s := range all {
		if s.Verified {
			t.line("  %s %s by %s", t.paint("valid", green), Printable(s.Kind), Printable(cmp.Or(s.Signer, s.Identity)))
		} else {
			t.line("  %s %s %s: %s", t.paint("not valid", red), Printable(s.Kind), Printable(s.Identity), Printable(s.Reason))
		}
	}
}

// licenses sums up what packages state; who needs each asks for the JSON.
func (t *table) licenses(packages []event.Package) {
	n := map[string]int{}
	for _, p := range packages {
		for _, l := range p.Licenses {
			n[l]++
		}
	}
	if len(n) == 0 {
		return
	}
	var names []string
	for name := range n {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(n[b], n[a]), strings.Compare(a, b)) })
	const most = 8
	var parts []string
	for i, name := range names {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %d", shorten(Printable(name), 30), n[name]))
	}
	t.line("")
	t.line("%s  %s", t.paint("licences", bold), strings.Join(parts, ", "))
}

// licenseFiles sums up those that belong to no package.
func (t *table) licenseFiles(all []event.License) {
	var rows [][]cell
	for _, g := range grouped(all, sameLicense) {
		rows = append(rows, append([]cell{{g.first.Expression, ""}}, g.places(place(g.first.Place))...))
	}
	t.grid([]string{"LICENCE FILES OF NO PACKAGE", "FILES", "FIRST IN"}, rows)
}

func sameLicense(l *event.License) string { return l.Expression }

// excluded lists what does not count, with the reason.
func (t *table) excluded(r *Report) {
	var rows [][]cell
	for _, k := range r.issues() {
		for _, x := range k.issues {
			if x.excluded != "" {
				rows = append(rows, []cell{{string(x.severity), dim}, {x.id, ""}, {x.where, ""}, {x.excluded, dim}})
			}
		}
	}
	t.grid([]string{"LEFT OUT", "WHAT", "WHERE", "BECAUSE"}, rows)
}
