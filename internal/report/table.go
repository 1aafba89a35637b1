package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Table writes the report for people. Colour is for terminals only; the caller
// knows. Everything that comes from the image is made printable first.
func Table(w io.Writer, r *Report, colour bool) error {
	t := &table{w: bufio.NewWriter(w), colour: colour}
	t.head(r)
	if r.Intelligence == nil {
		t.packages(r.Packages)
	} else {
		t.findings(r.Findings)
	}
	t.malware(r.Malware)
	t.secrets(r.Secrets)
	t.verdict(r.Verdict, r.Gaps)
	t.sentences("not judged", r.Gaps)
	t.sentences("notes", r.Notes)
	t.line("")
	t.line("%s", r.Sentence())
	return t.w.Flush()
}

type table struct {
	w      *bufio.Writer
	colour bool
}

// line writes one line; errors stay in the writer until Flush.
func (t *table) line(format string, args ...any) { fmt.Fprintf(t.w, format+"\n", args...) }

// The ANSI codes that the table uses.
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
)

func (t *table) paint(s string, code string) string {
	if !t.colour || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t *table) head(r *Report) {
	row := func(name, value string) {
		if value != "" {
			t.line("%s %s", t.paint(fmt.Sprintf("%-9s", name), dim), Printable(value))
		}
	}
	row("image", r.name())
	row("content", strings.TrimSpace(r.Image.Digest+" "+r.Image.Platform))
	row("system", cmp.Or(r.Distro.Name, strings.TrimSpace(r.Distro.ID+" "+r.Distro.Version), "unknown: no os-release"))
	packages := plural(len(r.Packages), "package", "packages") + " in " + plural(len(r.Layers), "layer", "layers")
	if len(r.Packages) > 0 {
		packages += " (" + ecosystems(r.Packages) + ")"
	}
	row("inventory", packages)
	if r.Intelligence != nil {
		row("matched", "with intelligence "+r.Intelligence.Version)
	}
}

// cell is text with a colour.
type cell struct{ text, colour string }

// grid writes aligned columns; the last one is not padded. Widths count
// characters, after everything was made printable.
func (t *table) grid(title []string, rows [][]cell) {
	if len(rows) == 0 {
		return
	}
	width := make([]int, len(title))
	for i, s := range title {
		width[i] = len(s)
	}
	for _, row := range rows {
		for i := range row {
			row[i].text = shorten(Printable(row[i].text))
			width[i] = max(width[i], utf8.RuneCountInString(row[i].text))
		}
	}
	heads := make([]cell, len(title))
	for i, s := range title {
		heads[i] = cell{s, bold}
	}
	t.line("")
	for _, row := range append([][]cell{heads}, rows...) {
		t.gridRow(row, width)
	}
}

func (t *table) gridRow(row []cell, width []int) {
	var b strings.Builder
	for i, c := range row {
		pad := width[i] - utf8.RuneCountInString(c.text) + 2
		if i == len(row)-1 {
			pad = 0
		}
		b.WriteString(t.paint(c.text, c.colour))
		b.WriteString(strings.Repeat(" ", pad))
	}
	t.line("%s", strings.TrimRight(b.String(), " "))
}

const maxCell = 60 // characters

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= maxCell {
		return s
	}
	return string([]rune(s)[:maxCell-1]) + "…"
}

func (t *table) findings(findings []event.Finding) {
	var rows [][]cell
	for _, f := range bySeverity(findings) {
		id := f.ID
		if f.KnownExploited {
			id += " (exploited)"
		}
		fix, fixColour := f.FixedVersion, green
		if fix == "" {
			fix, fixColour = "("+cmp.Or(string(f.State), "no fix")+")", dim
		}
		rows = append(rows, []cell{
			{string(f.Severity), severityColour(f.Severity)}, {id, ""}, {f.Package.Name, ""}, {f.Package.Version, ""},
			{fix, fixColour}, {layerOf(&f.Package), dim},
		})
	}
	t.grid([]string{"SEVERITY", "VULNERABILITY", "PACKAGE", "VERSION", "FIXED IN", "LAYER"}, rows)
}

func (t *table) packages(packages []event.Package) {
	var rows [][]cell
	for _, p := range packages {
		rows = append(rows, []cell{{p.Name, ""}, {p.Version, ""}, {p.Ecosystem, ""}, {layerOf(&p), dim}})
	}
	t.grid([]string{"PACKAGE", "VERSION", "ECOSYSTEM", "LAYER"}, rows)
}

// layerOf says which layer brought a package, by its step where it is known.
func layerOf(p *event.Package) string {
	if p.Step == "" {
		return fmt.Sprint(p.LayerIndex)
	}
	return fmt.Sprintf("%d %s", p.LayerIndex, p.Step)
}

func severityColour(s event.Severity) string {
	switch s {
	case event.SeverityCritical:
		return magenta
	case event.SeverityHigh:
		return red
	case event.SeverityMedium:
		return yellow
	}
	return dim
}

// verdict: what is incomplete because of a gap stands among the gaps already.
func (t *table) verdict(v *event.Verdict, gaps []string) {
	if v == nil || len(v.Policies) == 0 {
		return
	}
	word, colour, by := "allowed", green, v.Policies
	if !v.Allowed {
		word, colour, by = "refused", red, refusing(v)
	}
	t.line("")
	t.line("%s by %s", t.paint(word, colour), Printable(strings.Join(by, ", ")))
	for _, x := range v.Violations {
		audit := ""
		if x.Audit {
			audit = " (recorded only)"
		}
		t.line("  - %s: %s%s", Printable(x.Policy+" "+x.Rule), Printable(x.Message), audit)
		if x.Remediation != "" {
			t.line("      way out: %s", Printable(x.Remediation))
		}
		if x.Source != "" {
			t.line("      %s", t.paint(Printable(x.Source), dim))
		}
	}
	for _, s := range v.Incomplete {
		if !slices.Contains(gaps, s) {
			t.line("  ? %s", Printable(s))
		}
	}
}

// refusing names the policies that are violated and enforce.
func refusing(v *event.Verdict) []string {
	var names []string
	for _, x := range v.Violations {
		if !x.Audit && !slices.Contains(names, x.Policy) {
			names = append(names, x.Policy)
		}
	}
	return names
}

func (t *table) sentences(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint(title, bold))
	for _, s := range lines {
		t.line("  - %s", Printable(s))
	}
}
