package report

import (
	"cmp"
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

//go:embed page.html
var page string

// htmlPage is what the template shows; everything in it is printable.
type htmlPage struct {
	Name, Digest, Platform, System, Tool, Time, Intelligence string
	Sentence, Outcome, Colour                                string
	Counts                                                   []htmlCount
	Verdict                                                  *event.Verdict
	Base                                                     string
	Updates                                                  []htmlUpdate
	Unfixed                                                  int
	Kinds                                                    []htmlKind
	Excluded                                                 []htmlIssue
	Packages                                                 []htmlPackage
	Layers                                                   []Layer
	Licenses                                                 []htmlLicense
	Engines                                                  string
	Gaps, Notes                                              []string
	Compared                                                 []string
}

type (
	htmlCount struct {
		Severity string
		N        int
	}
	htmlUpdate struct{ Title, Gain, Command, Where string }
	htmlKind   struct {
		Name   string
		Issues []htmlIssue
	}
	htmlIssue struct {
		Severity, ID, URL, Title, Fix, Where, Layer, Reason string
	}
	htmlPackage struct{ Name, Version, Ecosystem, Licenses, Layer, Path string }
	htmlLicense struct {
		Expression, Path string
		Files            int
	}
)

// HTML writes the report as one page for a browser, light or dark as the
// reader's system is. It loads nothing and runs no script; its own policy
// forbids both.
func HTML(w io.Writer, r *Report) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, htmlOf(r))
}

func htmlOf(r *Report) htmlPage {
	p := htmlPage{
		Name: Printable(r.name()), Digest: Printable(r.Image.Digest), Platform: Printable(r.Image.Platform),
		System: Printable(cmp.Or(r.Distro.Name, joined(" ", r.Distro.ID, r.Distro.Version), "unknown") + endOfLife(r)),
		Tool:   Printable(r.Tool), Time: timestamp(r.Time), Intelligence: Printable(r.intelligence()), Sentence: r.Sentence(),
		Verdict: printableVerdict(r.Verdict), Gaps: printables(r.gapsToTell()), Engines: Printable(strings.Join(r.Engines, ", ")), Notes: printables(r.Notes),
	}
	for _, l := range r.Layers {
		l.Step, l.DiffID = Printable(l.Step), Printable(l.DiffID)
		p.Layers = append(p.Layers, l)
	}
	p.Outcome, p.Colour = "Not judged by a policy", "none"
	if v := r.Verdict; v != nil && len(v.Policies) > 0 {
		p.Outcome, p.Colour = "Allowed", "good"
		if !v.Allowed {
			p.Outcome, p.Colour = "Refused", "bad"
		}
	}
	n := map[event.Severity]int{}
	for i := range r.Findings {
		n[r.Findings[i].Severity]++
	}
	for _, s := range severitiesDown() {
		if n[s] > 0 {
			p.Counts = append(p.Counts, htmlCount{string(s), n[s]})
		}
	}
	p.advise(r.Advice)
	p.kinds(r)
	p.compare(r.Compared)
	for _, g := range grouped(r.Packages, sameProgram) {
		x := &g.first
		p.Packages = append(p.Packages, htmlPackage{
			Printable(x.Name), Printable(x.Version), Printable(x.Ecosystem), Printable(strings.Join(x.Licenses, ", ")), Printable(layerOf(x)), Printable(x.Path) + andMore(len(g.all)),
		})
	}
	for _, g := range grouped(r.Licenses, sameLicense) {
		p.Licenses = append(p.Licenses, htmlLicense{Printable(g.first.Expression), Printable(place(g.first.Place)), len(g.all)})
	}
	return p
}

func (p *htmlPage) advise(a *Advice) {
	if a == nil {
		return
	}
	if a.Base != nil {
		p.Base = Printable(a.Base.Sentence())
	}
	p.Unfixed = a.Unfixed
	for i := range a.Updates {
		u := &a.Updates[i]
		p.Updates = append(p.Updates, htmlUpdate{Printable(u.Title()), u.Gain(), Printable(u.Command), Printable(u.where())})
	}
}

func (p *htmlPage) kinds(r *Report) {
	for _, k := range r.issues() {
		kind := htmlKind{Name: k.name}
		for _, g := range grouped(k.issues, (*issue).same) {
			x := g.first
			x.where += andMore(len(g.all))
			shown := htmlIssue{
				string(x.severity), Printable(x.id), x.url, Printable(x.title), Printable(x.fix), Printable(x.where), Printable(x.layer), Printable(x.reason),
			}
			if x.excluded != "" {
				shown.Reason = Printable(x.excluded)
				p.Excluded = append(p.Excluded, shown)
				continue
			}
			kind.Issues = append(kind.Issues, shown)
		}
		if len(kind.Issues) > 0 {
			p.Kinds = append(p.Kinds, kind)
		}
	}
}

// andMore counts the places after the first.
func andMore(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(", in %d places", n)
}

func (p *htmlPage) compare(d *Difference) {
	if d == nil {
		return
	}
	p.Compared = []string{
		fmt.Sprintf("Since %s (%s): %d vulnerabilities new, %d gone", Printable(d.Other), timestamp(d.Time), len(d.New), len(d.Gone)),
		fmt.Sprintf("Packages: %d added, %d removed, %d with another version", len(d.Added), len(d.Removed), len(d.Changed)),
	}
	if d.Verdict != "" {
		p.Compared = append(p.Compared, "The verdict changed: it "+d.Verdict)
	}
}

func printables(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = Printable(s)
	}
	return out
}

func printableVerdict(v *event.Verdict) *event.Verdict {
	if v == nil {
		return nil
	}
	out := event.Verdict{Incomplete: printables(v.Incomplete)}
	for _, x := range v.Violations {
		x.Policy, x.Rule, x.Message = Printable(x.Policy), Printable(x.Rule), Printable(x.Message)
		x.Remediation, x.Source = Printable(x.Remediation), Printable(x.Source)
		out.Violations = append(out.Violations, x)
	}
	return &out
}
