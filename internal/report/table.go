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

// Look is how a table is shown.
type Look struct {
	Colour bool // for terminals only
	Width  int  // of the terminal, in characters; 0: lines may be long
	All    bool // list everything, however much there is
}

// Table writes the report for people: what matters first, then the lists.
// Everything that comes from the image is made printable first.
func Table(w io.Writer, r *Report, look Look) error {
	t := &table{w: bufio.NewWriter(w), colour: look.Colour, width: look.Width, all: look.All}
	t.head(r)
	t.verdict(r.Verdict, r.Gaps)
	t.difference(r.Compared)
	t.advice(r.Advice)
	switch {
	case r.Intelligence == nil:
		t.packages(r)
	case len(r.Findings) > manyFindings && !look.All:
		t.findingsByPackage(r)
	default:
		t.findings(r)
	}
	t.malware(r.Malware)
	t.secrets(r.Secrets)
	t.misconfigurations(r.Misconfigurations)
	t.signatures(r.Signatures)
	t.licenses(r.Packages)
	t.licenseFiles(r.Licenses)
	t.excluded(r)
	t.sentences("not judged", r.gapsToTell())
	t.sentences("notes", r.Notes)
	t.line("")
	t.whole("%s", hang(r.Sentence(), 0, t.width))
	return t.w.Flush()
}

// How many are still read one by one. More of them are summed up, unless all are
// asked for.
const (
	manyFindings = 60
	manySecrets  = 30
	manyPackages = 200
	manyGaps     = 20
)

type table struct {
	w      *bufio.Writer
	colour bool
	width  int
	all    bool
}

// line writes one line, broken at words where the terminal ends; errors stay
// in the writer until Flush.
func (t *table) line(format string, args ...any) {
	t.whole("%s", wrap(fmt.Sprintf(format, args...), t.width))
}

// whole writes a line as it is: a command that is copied must not be broken.
func (t *table) whole(format string, args ...any) { fmt.Fprintf(t.w, format+"\n", args...) }

// wrap breaks a line at words; what follows is indented a little deeper. Width
// 0 is none.
func wrap(line string, width int) string {
	text := strings.TrimLeft(line, " -?")
	indent := len(line) - len(text)
	if indent == 0 {
		indent = 10
	}
	return hang(line, indent, width)
}

// hang breaks a line at words; what follows begins in column indent.
func hang(line string, column, width int) string {
	if width <= 0 || visible(line) <= width {
		return line
	}
	text := strings.TrimLeft(line, " -?")
	first := line[:len(line)-len(text)]
	indent := strings.Repeat(" ", min(column, width/2))
	var b strings.Builder
	b.WriteString(first)
	column = len(first)
	for i, word := range strings.Split(text, " ") {
		switch {
		case i == 0:
		case column+1+visible(word) > width && visible(word) <= width-len(indent):
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += visible(word)
	}
	return b.String()
}

// visible counts the characters of s that a terminal shows: not the codes that
// paint wrote.
func visible(s string) (n int) {
	code := false
	for _, r := range s {
		switch {
		case r == '\x1b':
			code = true
		case !code:
			n++
		case r == 'm':
			code = false
		}
	}
	return n
}

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
	if content := strings.TrimSpace(r.Image.Digest + " " + r.Image.Platform); content != "" {
		t.whole("%s %s", t.paint("content  ", dim), Printable(content)) // to be copied, however narrow the terminal
	}
	row("system", cmp.Or(r.Distro.Name, strings.TrimSpace(r.Distro.ID+" "+r.Distro.Version), "unknown: no os-release")+endOfLife(r))
	packages := plural(len(r.Packages), "package", "packages") + " in " + plural(len(r.Layers), "layer", "layers")
	if len(r.Packages) > 0 {
		packages += " (" + ecosystems(r.Packages) + ")"
	}
	row("inventory", packages)
	if r.Intelligence != nil {
		row("matched", "with intelligence "+r.Intelligence.Version)
	}
	row("malware", engines(r))
	row("found", found(r))
}

// engines names those that looked for malware.
func engines(r *Report) string {
	if len(r.Engines) == 0 {
		return ""
	}
	return "looked for by " + strings.Join(r.Engines, ", ")
}

// endOfLife says so when the distribution's support has ended by then.
func endOfLife(r *Report) string {
	end := r.Distro.EndOfLife
	switch {
	case end.IsZero():
		return ""
	case end.Before(r.Time):
		return ", without support since " + date(end) + ": no more fixes"
	case end.Before(r.Time.AddDate(0, 6, 0)):
		return ", supported until " + date(end)
	}
	return ""
}

// found counts everything, by kind.
func found(r *Report) string {
	var parts []string
	if r.Intelligence != nil {
		n := plural(len(r.Findings), "vulnerability", "vulnerabilities")
		if len(r.Findings) > 0 {
			n += " (" + counts(r.Findings) + "; " + fmt.Sprint(fixable(r.Findings)) + " with a fix)"
		}
		parts = append(parts, n)
	}
	for _, k := range []struct {
		n         int
		one, many string
	}{
		{len(r.Malware), "malicious file", "malicious files"}, {len(r.Secrets), "secret", "secrets"},
		{len(r.Misconfigurations), "misconfiguration", "misconfigurations"},
		{len(r.Excluded) + len(r.Accepted), "left out", "left out"},
	} {
		if k.n > 0 {
			parts = append(parts, plural(k.n, k.one, k.many))
		}
	}
	return strings.Join(parts, ", ")
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
			row[i].text = Printable(row[i].text)
			if !isPlace(title[i]) || t.width == 0 {
				row[i].text = shorten(row[i].text, maxCell)
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i].text))
		}
	}
	t.fit(width)
	heads := make([]cell, len(title))
	for i, s := range title {
		heads[i] = cell{s, bold}
	}
	t.line("")
	for _, row := range append([][]cell{heads}, rows...) {
		t.gridRow(title, row, width)
	}
}

// isPlace says that a column holds paths, or names like them, whose end tells
// more than their middle.
func isPlace(title string) bool { return title == "IN" || title == "FIRST IN" || title == "PACKAGE" }

// fit makes columns narrower until a line fits the terminal: the last one,
// which explains, then the widest. A column keeps what a name or a version needs.
func (t *table) fit(width []int) {
	const least = 12
	for last := len(width) - 1; t.width > 0; {
		total, i := -2, last
		for _, n := range width {
			total += n + 2
		}
		if width[last] <= least {
			for j, n := range width {
				if n > width[i] {
					i = j
				}
			}
		}
		if total <= t.width || width[i] <= least {
			return
		}
		width[i]--
	}
}

func (t *table) gridRow(title []string, row []cell, width []int) {
	var b strings.Builder
	for i, c := range row {
		if isPlace(title[i]) {
			c.text = shortenMiddle(c.text, width[i])
		}
		c.text = shorten(c.text, width[i])
		pad := width[i] - utf8.RuneCountInString(c.text) + 2
		if i == len(row)-1 {
			pad = 0
		}
		b.WriteString(t.paint(c.text, c.colour))
		b.WriteString(strings.Repeat(" ", pad))
	}
	t.whole("%s", strings.TrimRight(b.String(), " "))
}

const maxCell = 60 // characters

func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// shortenMiddle keeps the beginning and, longer, the end.
func shortenMiddle(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n || n < 3 {
		return s
	}
	head := (n - 1) / 3
	return string(runes[:head]) + "…" + string(runes[len(runes)-(n-1-head):])
}

func (t *table) findings(r *Report) {
	var rows [][]cell
	groups := grouped(byRank(r.Findings), func(f *event.Finding) string {
		return f.ID + "\x00" + f.FixedVersion + "\x00" + sameProgram(&f.Package)
	})
	many, layers := several(groups), layersOf(r)
	for _, g := range groups {
		f := g.first
		id := f.ID
		switch {
		case f.KnownExploited:
			id += " (exploited)"
		case f.EPSS >= likely:
			id += fmt.Sprintf(" (likely, %.0f%%)", f.EPSS*100)
		}
		fix, fixColour := f.FixedVersion, green
		if fix == "" {
			fix, fixColour = "("+cmp.Or(string(f.State), "no fix")+")", dim
		}
		row := []cell{{string(f.Severity), severityColour(f.Severity)}, {id, ""}, {f.Package.Name, ""}, {f.Package.Version, ""}, {fix, fixColour}}
		rows = append(rows, append(row, whereOf(g, f.Package, many, layers)...))
	}
	t.grid(append([]string{"SEVERITY", "VULNERABILITY", "PACKAGE", "VERSION", "FIXED IN"}, whereTitles(many, layers)...), rows)
}

// whereOf are a row's last cells: how many files hold it, with the first of them,
// and the layer, each only where it tells something.
func whereOf[T any](g group[T], p event.Package, many, layers bool) (cells []cell) {
	if many {
		cells = g.places(p.Path)
	}
	if layers {
		cells = append(cells, cell{layerOf(&p), dim})
	}
	return cells
}

func whereTitles(many, layers bool) (titles []string) {
	if many {
		titles = []string{"FILES", "FIRST IN"}
	}
	if layers {
		titles = append(titles, "LAYER")
	}
	return titles
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
	for i, s := range lines {
		if i == manyGaps && !t.all && len(lines) > manyGaps+1 {
			t.line("  %s", t.paint(fmt.Sprintf("and %d more; --all names each", len(lines)-i), dim))
			return
		}
		t.line("  - %s", Printable(s))
	}
}
