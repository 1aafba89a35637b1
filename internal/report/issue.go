package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// issue is anything that a scan found fault with, in the words that every
// format for people needs.
type issue struct {
	severity       event.Severity
	id, title, fix string
	url            string
	where          string // the package or the place
	layer          string
	reason         string // of its rank, or what the engine says
	excluded       string // why it does not count; empty: it does
}

// same is what makes issues at several places one line: only packages are in
// several files.
func (x *issue) same() string {
	return strings.Join([]string{x.id, x.where, x.fix, x.layer, x.excluded}, "\x00")
}

type issueKind struct {
	name   string
	issues []issue
}

// issues is everything found, by kind, the first to look at first; what is
// excluded follows at the end of its kind.
func (r *Report) issues() []issueKind {
	found := issueKind{name: "vulnerabilities"}
	for _, f := range byRank(r.Findings) {
		found.issues = append(found.issues, findingIssue(&f))
	}
	for _, f := range byRank(r.Excluded) {
		x := findingIssue(&f)
		x.excluded = whyExcluded(&f)
		found.issues = append(found.issues, x)
	}
	for _, a := range r.Accepted {
		if a.Finding != nil {
			x := findingIssue(a.Finding)
			x.excluded = a.why()
			found.issues = append(found.issues, x)
		}
	}
	return []issueKind{
		{"malware", each(worst(r.Malware, func(m event.Malware) event.Severity { return m.Severity }), malwareIssue)},
		found,
		{"secrets", append(each(worst(r.Secrets, func(s event.Secret) event.Severity { return s.Severity }), secretIssue), r.acceptedSecrets()...)},
		{"misconfigurations", append(each(worst(r.Misconfigurations, func(m event.Misconfiguration) event.Severity { return m.Severity }), misconfigurationIssue), r.acceptedMisconfigurations()...)},
	}
}

func each[T any](all []T, f func(*T) issue) []issue {
	out := make([]issue, len(all))
	for i := range all {
		out[i] = f(&all[i])
	}
	return out
}

func findingIssue(f *event.Finding) issue {
	fix := noFix(f.State)
	if f.FixedVersion != "" {
		fix = fmt.Sprintf("update %s from %s to %s", f.Package.Name, f.Package.Version, f.FixedVersion)
	}
	return issue{
		severity: f.Severity, id: f.ID, title: cmp.Or(f.Title, f.ID+" in "+f.Package.Name), fix: fix, url: webURL(f.URL),
		where: f.Package.Name + " " + f.Package.Version, layer: layerOf(&f.Package), reason: Reason(f),
	}
}

func whyExcluded(f *event.Finding) string {
	if f.VEX == nil {
		return "excluded"
	}
	return joined(", ", f.VEX.Status, f.VEX.Justification, f.VEX.Document)
}

func malwareIssue(m *event.Malware) issue {
	return issue{
		severity: m.Severity, id: m.Name, title: cmp.Or(m.Reason, "found by "+m.Engine), reason: foundBy(m), fix: "remove the file; find out how it came there",
		where: place(m.Place), layer: layerIn(m.Place),
	}
}

// foundBy names the engine where the title does not.
func foundBy(m *event.Malware) string {
	if m.Reason == "" {
		return ""
	}
	return "found by " + m.Engine
}

func secretIssue(s *event.Secret) issue {
	fix := "revoke it, then take it out of the build: use a build secret"
	if s.Place.Deleted {
		fix = "revoke it: a later layer removed the file, but everybody who pulls the image has it"
	}
	return issue{severity: s.Severity, id: s.Rule, title: joined(" ", s.Title, s.Excerpt), fix: fix, where: place(s.Place), layer: layerIn(s.Place)}
}

func misconfigurationIssue(m *event.Misconfiguration) issue {
	where := place(m.Place)
	if m.Resource != "" {
		where += " (" + m.Resource + ")"
	}
	return issue{severity: m.Severity, id: m.ID, title: cmp.Or(m.Message, m.Title), fix: m.Remediation, where: where, layer: layerIn(m.Place)}
}

func (r *Report) acceptedSecrets() (out []issue) {
	for _, a := range r.Accepted {
		if a.Secret != nil {
			x := secretIssue(a.Secret)
			x.excluded = a.why()
			out = append(out, x)
		}
	}
	return out
}

func (r *Report) acceptedMisconfigurations() (out []issue) {
	for _, a := range r.Accepted {
		if a.Misconfiguration != nil {
			x := misconfigurationIssue(a.Misconfiguration)
			x.excluded = a.why()
			out = append(out, x)
		}
	}
	return out
}
