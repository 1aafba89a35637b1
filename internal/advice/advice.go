// Package advice says what to change in an image so that findings go away: the
// base image, and the few updates of packages that remove most. It is pure and
// safe for concurrent use.
package advice

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// baseName is the label by which builders say what an image was built from
// (OCI image specification, annotations).
const baseName = "org.opencontainers.image.base.name"

// Of is the advice for one report; nil when there is nothing to advise on.
func Of(r *report.Report) *report.Advice {
	if len(r.Findings) == 0 {
		return nil
	}
	a := &report.Advice{Base: baseOf(r), Updates: updates(r)}
	for i := range r.Findings {
		if r.Findings[i].FixedVersion == "" {
			a.Unfixed++
		}
	}
	return a
}

func baseOf(r *report.Report) *report.BaseAdvice {
	b := report.BaseAdvice{Image: r.Config.Labels[baseName]}
	for _, l := range r.Layers {
		if l.Base {
			b.Layers++
		}
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; ofBase(r, &f.Package) {
			b.Findings++
			if f.FixedVersion != "" {
				b.Fixable++
			}
		}
	}
	if b.Findings == 0 {
		return nil
	}
	return &b
}

func ofBase(r *report.Report, p *event.Package) bool {
	return p.LayerIndex >= 0 && p.LayerIndex < len(r.Layers) && r.Layers[p.LayerIndex].Base
}

// Try says what candidate, another base image's report, would change of the
// base's findings. A finding is the same when its id and package are.
func Try(r *report.Report, candidate *report.Report) {
	if r.Advice == nil || r.Advice.Base == nil {
		return
	}
	b := r.Advice.Base
	b.Candidate, b.Gone, b.New = candidate.Target, 0, 0
	has, had := map[string]bool{}, map[string]bool{}
	for i := range candidate.Findings {
		has[thing(&candidate.Findings[i])] = true
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !ofBase(r, &f.Package) {
			continue
		}
		had[thing(f)] = true
		if !has[thing(f)] {
			b.Gone++
		}
	}
	for what := range has {
		if !had[what] {
			b.New++
		}
	}
}

func thing(f *event.Finding) string {
	return f.ID + "\x00" + f.Package.Ecosystem + "\x00" + f.Package.Name
}

// group is one update in the making.
type group struct {
	report.Update
	names map[string]string // package → lowest version that fixes all
}

// updates joins the findings that one update removes: binary packages of one
// source are updated together.
func updates(r *report.Report) []report.Update {
	groups := map[string]*group{}
	var order []string
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.FixedVersion == "" {
			continue
		}
		p := &f.Package
		key := strings.Join([]string{p.Ecosystem, cmp.Or(p.Source, p.Name), p.Version, r.LayerName(p)}, "\x00")
		g := groups[key]
		if g == nil {
			g = &group{names: map[string]string{}}
			g.Ecosystem, g.From, g.LayerIndex, g.Step = p.Ecosystem, p.Version, p.LayerIndex, p.Step
			g.Base, g.Locked = ofBase(r, p), true
			groups[key] = g
			order = append(order, key)
		}
		g.add(f)
	}
	out := make([]report.Update, 0, len(groups))
	for _, key := range order {
		out = append(out, groups[key].finish())
	}
	slices.SortStableFunc(out, compare)
	return out
}

func (g *group) add(f *event.Finding) {
	p := &f.Package
	g.names[p.Name] = higher(p.Ecosystem, g.names[p.Name], f.FixedVersion)
	g.Findings = append(g.Findings, f.ID)
	g.Locked = g.Locked && p.Locked
	if f.Severity.Rank() > g.Worst.Rank() {
		g.Worst = f.Severity
	}
	if f.KnownExploited {
		g.Exploited++
	}
}

func (g *group) finish() report.Update {
	for name, version := range g.names {
		g.Packages = append(g.Packages, name)
		g.To = higher(g.Ecosystem, g.To, version)
	}
	slices.Sort(g.Packages)
	slices.Sort(g.Findings)
	g.Command = command(g.Ecosystem, g.Packages, g.names)
	return g.Update
}

// higher is the newer of two versions; of two that have no order, the second.
func higher(ecosystem, a, b string) string {
	if a == "" {
		return b
	}
	order, ok := vuln.OrderOf(ecosystem)
	if !ok {
		return b
	}
	if n, err := order(a, b); err == nil && n > 0 {
		return a
	}
	return b
}

// compare puts first what removes exploited findings, then what removes most.
func compare(a, b report.Update) int {
	return cmp.Or(
		cmp.Compare(b.Exploited, a.Exploited),
		cmp.Compare(len(b.Findings), len(a.Findings)),
		cmp.Compare(b.Worst.Rank(), a.Worst.Rank()),
		slices.Compare(a.Packages, b.Packages),
		strings.Compare(a.From, b.From),
		cmp.Compare(a.LayerIndex, b.LayerIndex),
	)
}
