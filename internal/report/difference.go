package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Difference is what changed from another report to this one.
type Difference struct {
	Other  string    `json:"other"` // what this one is compared with
	Time   time.Time `json:"time"`  // of that scan
	Digest string    `json:"digest"`
	// Packages that came, went, or changed their version in place.
	Added   []event.Package `json:"added"`
	Removed []event.Package `json:"removed"`
	Changed []Change        `json:"changed"`
	// New and Gone findings; one is the same when id, package and path are.
	New  []event.Finding `json:"new"`
	Gone []event.Finding `json:"gone"`
	// Verdict says how it changed; empty when it did not, or one is unknown.
	Verdict string `json:"verdict,omitempty"`
}

// Change is one package with another version.
type Change struct {
	Name      string `json:"name"`
	Ecosystem string `json:"ecosystem"`
	From      string `json:"from"`
	To        string `json:"to"`
}

// Compare says what changed from old to now.
func Compare(old, now *Report) *Difference {
	d := &Difference{
		Other: old.name(), Time: old.Time, Digest: old.Image.Digest, Verdict: verdictChange(old.Verdict, now.Verdict),
		New: byRank(missing(now.Findings, old.Findings, findingKey)), Gone: byRank(missing(old.Findings, now.Findings, findingKey)),
	}
	d.Added = missing(now.Packages, old.Packages, packageKey)
	d.Removed = missing(old.Packages, now.Packages, packageKey)
	d.pair()
	return d
}

// pair makes changes of the packages that went and came under one name.
func (d *Difference) pair() {
	d.Changed = []Change{}
	d.Added = slices.DeleteFunc(d.Added, func(p event.Package) bool {
		i := slices.IndexFunc(d.Removed, func(q event.Package) bool {
			return q.Name == p.Name && q.Ecosystem == p.Ecosystem && q.Arch == p.Arch && q.Path == p.Path
		})
		if i < 0 {
			return false
		}
		d.Changed = append(d.Changed, Change{p.Name, p.Ecosystem, d.Removed[i].Version, p.Version})
		d.Removed = slices.Delete(d.Removed, i, i+1)
		return true
	})
}

func findingKey(f *event.Finding) string {
	return strings.Join([]string{f.ID, f.Package.Ecosystem, f.Package.Name, f.Package.Path}, "\x00")
}

func packageKey(p *event.Package) string {
	return strings.Join([]string{p.Ecosystem, p.Name, p.Version, p.Arch, p.Path}, "\x00")
}

// missing is those of a that b does not have.
func missing[T any](a, b []T, key func(*T) string) []T {
	has := make(map[string]bool, len(b))
	for i := range b {
		has[key(&b[i])] = true
	}
	out := []T{}
	for i := range a {
		if !has[key(&a[i])] {
			out = append(out, a[i])
		}
	}
	return out
}

func verdictChange(old, now *event.Verdict) string {
	if old == nil || now == nil || old.Allowed == now.Allowed {
		return ""
	}
	if now.Allowed {
		return "was refused, is allowed"
	}
	return "was allowed, is refused"
}

// difference tells it in the table.
func (t *table) difference(d *Difference) {
	if d == nil {
		return
	}
	t.line("")
	title := "since " + Printable(d.Other)
	if !d.Time.IsZero() {
		title += " (" + timestamp(d.Time) + ")"
	}
	t.line("%s", t.paint(title, bold))
	if d.Verdict != "" {
		t.line("  - the verdict changed: it %s", d.Verdict)
	}
	fresh := fmt.Sprintf("%d new", len(d.New))
	if len(d.New) > 0 {
		fresh += " (" + counts(d.New) + ")"
	}
	t.line("  - vulnerabilities: %s, %d gone", fresh, len(d.Gone))
	for i, f := range d.New {
		if i == mostUpdates {
			t.line("      … and %d more", len(d.New)-mostUpdates)
			break
		}
		t.line("      %s %s", t.paint("+", red), Printable(f.ID+" in "+f.Package.Name+" "+f.Package.Version+" "+Reason(&f)))
	}
	t.line("  - packages: %d added, %d removed, %d with another version", len(d.Added), len(d.Removed), len(d.Changed))
	var lines []string
	for _, p := range d.Added {
		lines = append(lines, "+ "+p.Name+" "+p.Version)
	}
	for _, p := range d.Removed {
		lines = append(lines, "- "+p.Name+" "+p.Version)
	}
	for _, c := range d.Changed {
		lines = append(lines, c.Name+" "+c.From+" → "+c.To)
	}
	for i, line := range lines {
		if i == mostUpdates {
			t.line("      … and %d more", len(lines)-mostUpdates)
			break
		}
		t.line("      %s", Printable(line))
	}
}
