package report

import (
	"cmp"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// content adds what was found in files and in the configuration, and
// signatures that do not hold.
func (s *sarifBuilder) content(r *Report) {
	for _, m := range r.Malware {
		x := malwareIssue(&m)
		s.issue(r, &x, m.Place, sarifKind{"Malware", "malware/" + m.Name, m.Name, "malware", "high"}, m.SHA256)
	}
	for _, m := range r.Secrets {
		x := secretIssue(&m)
		s.issue(r, &x, m.Place, secretKind(&m), m.Excerpt)
	}
	for _, m := range r.Misconfigurations {
		x := misconfigurationIssue(&m)
		s.issue(r, &x, m.Place, misconfigurationKind(&m), m.Resource, m.Message)
	}
	for _, g := range r.Signatures {
		if !g.Verified {
			x := issue{severity: event.SeverityMedium, title: joined(" ", g.Kind, "signature", g.Identity, "does not hold"), fix: cmp.Or(g.Reason, "sign the image with a trusted key")}
			s.issue(r, &x, event.Place{}, sarifKind{"UnverifiedSignature", "signature/" + g.Kind, "A signature that does not hold", "supply-chain", "high"}, g.Identity)
		}
	}
	for _, a := range r.Accepted {
		switch {
		case a.Finding != nil:
			s.finding(r, a.Finding, a.why())
		case a.Secret != nil:
			x := secretIssue(a.Secret)
			x.excluded = a.why()
			s.issue(r, &x, a.Secret.Place, secretKind(a.Secret), a.Secret.Excerpt)
		case a.Misconfiguration != nil:
			x := misconfigurationIssue(a.Misconfiguration)
			x.excluded = a.why()
			s.issue(r, &x, a.Misconfiguration.Place, misconfigurationKind(a.Misconfiguration), a.Misconfiguration.Resource, a.Misconfiguration.Message)
		}
	}
}

// sarifKind is what a rule says besides its severity.
type sarifKind struct{ name, id, title, tag, precision string }

func secretKind(m *event.Secret) sarifKind {
	return sarifKind{"Secret", "secret/" + m.Rule, m.Title, "secret", "medium"}
}

func misconfigurationKind(m *event.Misconfiguration) sarifKind {
	return sarifKind{"Misconfiguration", m.ID, m.Title, "misconfiguration", "high"}
}

func (s *sarifBuilder) issue(r *Report, x *issue, at event.Place, kind sarifKind, identity ...string) {
	if s.full() {
		return
	}
	title := Printable(cmp.Or(kind.title, kind.id))
	rule := s.rule(sarifRule{
		ID: Printable(kind.id), Name: kind.name, Short: sarifText{title}, Full: sarifText{title}, Help: sarifText{Printable(x.fix)},
		Default:    sarifDefault{level(x.severity)},
		Properties: sarifProperties{Tags: []string{"security", kind.tag, "container"}, SecuritySeverity: score(x.severity), Precision: kind.precision},
	})
	text := fmt.Sprintf("%s in %s: %s.", x.title, cmp.Or(x.where, r.name()), x.fix)
	if x.layer != "" {
		text += " Layer " + x.layer + "."
	}
	path := at.Path
	if at.Kind != event.PlaceFile {
		path = "Dockerfile" // it stands in the image's configuration
		identity = append(identity, at.Kind, at.Path)
	}
	identity = append([]string{kind.id, path}, identity...)
	s.add(rule, level(x.severity), text, path, r, append(identity, fmt.Sprint(at.LayerIndex))...)
	if at.Line > 0 && at.Kind == event.PlaceFile {
		s.results[len(s.results)-1].Locations[0].Physical.Region.StartLine = at.Line
	}
	s.suppress(x.excluded)
}
