package report

import (
	"cmp"
	"fmt"
	"strings"
)

// mostUpdates is how many steps the table advises: the rest removes little.
const mostUpdates = 10

// advice says what to change, the base image first.
func (t *table) advice(a *Advice) {
	if a == nil || a.Base == nil && len(a.Updates) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint("what to change", bold))
	if a.Base != nil {
		t.line("  - %s", Printable(a.Base.Sentence()))
	}
	left, where := 0, ""
	for i, u := range a.Updates {
		if i >= mostUpdates {
			left += len(u.Findings)
			continue
		}
		t.line("  - %s: %s", Printable(u.Title()), u.Gain())
		if u.Command != "" && !u.Base {
			t.whole("      %s", t.paint(Printable(u.Command), green))
		}
		if u.where() != where {
			where = u.where()
			t.line("      %s", t.paint(shorten(Printable(where), 150), dim))
		}
	}
	if left > 0 {
		t.line("  - %s: %d more gone", plural(len(a.Updates)-mostUpdates, "other update", "other updates"), left)
	}
	if a.Unfixed > 0 {
		t.line("  %s", t.paint(fmt.Sprintf("no update removes the other %d yet", a.Unfixed), dim))
	}
}

// Sentence says what another base image is worth.
func (b *BaseAdvice) Sentence() string {
	name := cmp.Or(b.Image, fmt.Sprintf("of %s", plural(b.Layers, "layer", "layers")))
	if b.Candidate != "" {
		s := fmt.Sprintf("update the base image %s to %s: %d of its %d gone", name, b.Candidate, b.Gone, b.Findings)
		if b.New > 0 {
			s += fmt.Sprintf(", %d new", b.New)
		}
		return s
	}
	if b.Fixable == 0 {
		return fmt.Sprintf("the base image %s has %s, none with a fix; try another one with --base", name, plural(b.Findings, "vulnerability", "vulnerabilities"))
	}
	return fmt.Sprintf("build on a newer base image %s: %d of its %d have a fix; --base NAME tries one", name, b.Fixable, b.Findings)
}

// Title names what is updated, and to what.
func (u *Update) Title() string {
	names := strings.Join(u.Packages, ", ")
	if len(u.Packages) > 4 {
		names = fmt.Sprintf("%s and %d more of the same source", strings.Join(u.Packages[:3], ", "), len(u.Packages)-3)
	}
	return fmt.Sprintf("update %s from %s to %s", names, u.From, u.To)
}

// Gain says what an update removes: "5 gone, 1 of them exploited".
func (u *Update) Gain() string {
	s := fmt.Sprintf("%d gone", len(u.Findings))
	if u.Exploited > 0 {
		s += fmt.Sprintf(", %d of them exploited", u.Exploited)
	}
	return s
}

func (u *Update) where() string {
	s := fmt.Sprintf("layer %d", u.LayerIndex)
	if u.Base {
		s += ", of the base image"
	}
	if u.Step != "" {
		s += ": " + u.Step
	}
	if u.Locked {
		s += " (a lock file names it)"
	}
	return s
}
