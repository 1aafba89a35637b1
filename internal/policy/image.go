package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// The words of image.unscanned.
const (
	UnscannedScan  = "scan"  // judge it now, within a time limit; then as deny
	UnscannedDeny  = "deny"  // refuse what was never scanned
	UnscannedAllow = "allow" // let it pass and say so
)

// imageSection is what a policy says about images.
type imageSection struct {
	unscanned         string
	source            string
	maxSeverity       *maxSeverity
	malware           *contentLimit
	secrets           *contentLimit
	licenses          *licenseLimit
	misconfigurations *misconfigurations
	origin            origin
	rules             []rule
}

// maxSeverity is the highest severity that passes, per kind of finding. A
// finding that several limits speak of is held to the lowest of them.
type maxSeverity struct {
	source         string
	level          event.Severity // every finding; "" = no limit
	fixAvailable   event.Severity // findings with a fix
	knownExploited event.Severity // findings that are exploited in the wild
}

// severityNone as a limit refuses findings of every severity.
const severityNone event.Severity = "none"

func (ps parser) imageSection(v document.Value) *imageSection {
	s := &imageSection{unscanned: UnscannedScan, source: v.Source()}
	fields := document.Fields{
		"unscanned": func(v document.Value) {
			s.unscanned, s.source = v.Word(UnscannedScan, UnscannedDeny, UnscannedAllow), v.Source()
		},
		"maxSeverity":       func(v document.Value) { s.maxSeverity = parseMaxSeverity(v) },
		"rules":             func(v document.Value) { s.rules = parseRules(v, "image", ps.envs.image) },
		"malware":           func(v document.Value) { s.malware = parseContentLimit(v) },
		"secrets":           func(v document.Value) { s.secrets = parseContentLimit(v) },
		"licenses":          func(v document.Value) { s.licenses = parseLicenseLimit(v) },
		"misconfigurations": func(v document.Value) { s.misconfigurations = parseMisconfigurations(v) },
	}
	s.origin.fields(fields)
	v.Map(fields)
	return s
}

func parseMaxSeverity(v document.Value) *maxSeverity {
	m := &maxSeverity{source: v.Source()}
	if v.Kind != document.Map {
		m.level = severityWord(v)
		return m
	}
	v.Map(document.Fields{
		"level":          func(v document.Value) { m.level = severityWord(v) },
		"fixAvailable":   func(v document.Value) { m.fixAvailable = severityWord(v) },
		"knownExploited": func(v document.Value) { m.knownExploited = severityWord(v) },
		"epss":           nil, "inUse": nil,
	})
	if len(v.Pairs) == 0 {
		v.Fail("is empty: give a severity, or level, fixAvailable or knownExploited")
	}
	return m
}

func severityWord(v document.Value) event.Severity {
	return event.Severity(v.Word("none", "negligible", "low", "medium", "high", "critical"))
}

// exceeds says whether f is above the limit for findings of its kind.
// A finding whose severity nobody published is above "none" only.
func (m *maxSeverity) exceeds(f *event.Finding) bool {
	over := func(limit event.Severity) bool {
		switch limit {
		case "":
			return false
		case severityNone:
			return true
		}
		return f.Severity.Rank() > limit.Rank()
	}
	return over(m.level) || f.FixedVersion != "" && over(m.fixAvailable) || f.KnownExploited && over(m.knownExploited)
}

func (m *maxSeverity) String() string {
	var parts []string
	for _, limit := range []struct {
		what  string
		level event.Severity
	}{{"", m.level}, {" with a fix", m.fixAvailable}, {" known to be exploited", m.knownExploited}} {
		if limit.level != "" {
			parts = append(parts, string(limit.level)+limit.what)
		}
	}
	return strings.Join(parts, ", ")
}

// Image judges one image by the image section of every policy that covers it.
// now decides which exceptions still count.
func (s *Set) Image(now time.Time, facts ImageFacts) event.Verdict {
	has := func(p *Policy) bool { return p.image != nil }
	return s.judge(now, facts.Subject, has, func(j *judgement, p *Policy) {
		for _, gap := range facts.Gaps {
			j.incomplete("%s", gap)
		}
		p.image.judge(j, p, facts)
	})
}

// WantsScan says whether a policy wants an image that was never scanned to be
// scanned now, before the verdict, rather than judged as it is.
func (s *Set) WantsScan(subject Subject) bool {
	return slices.ContainsFunc(s.ForSubject(subject), func(p *Policy) bool {
		return p.image != nil && p.image.unscanned == UnscannedScan
	})
}

// LooksFor says whether a policy speaks of that kind of content, so that a scan
// should look for it.
func (s *Set) LooksFor(kind string) bool {
	return slices.ContainsFunc(s.policies, func(p *Policy) bool { return p.image != nil && p.image.speaksOf(kind) })
}

// Lacks lists the kinds of content that policies speak of and that a scan,
// which looked for those, did not look for.
func (s *Set) Lacks(looked []string) []string {
	var lacks []string
	for _, kind := range []string{event.LookedMalware, event.LookedSecrets, event.LookedLicenses, event.LookedMisconfigurations, event.LookedSignatures} {
		if s.LooksFor(kind) && !slices.Contains(looked, kind) {
			lacks = append(lacks, kind)
		}
	}
	return lacks
}

// ReadsPlaces says whether a verdict on an image may rest on where its packages
// lie, what brought them or under which licences they are: on what one package
// has in one image and not in the next.
func (s *Set) ReadsPlaces() bool {
	return slices.ContainsFunc(s.policies, func(p *Policy) bool { return p.image != nil && p.image.licenses != nil }) ||
		s.readsFields(placeFields()...)
}

// placeFields are the fields that one package has otherwise in another image.
func placeFields() []string { return []string{"path", "layer", "layerIndex", "step", "licenses"} }

// Weighs says whether a finding can matter to a verdict on an image: those that
// do not may be left out of ImageFacts.
func (s *Set) Weighs(f *event.Finding) bool {
	return slices.ContainsFunc(s.policies, func(p *Policy) bool {
		if p.image == nil {
			return false
		}
		m := p.image.maxSeverity
		return m != nil && (m.exceeds(f) || f.Severity.Rank() <= event.SeverityUnknown.Rank()) ||
			slices.ContainsFunc(p.image.rules, func(r rule) bool { return r.deny != nil && r.deny.Reads("findings") })
	})
}

// ReadsPackages says whether a verdict on an image may rest on packages that
// have no findings.
func (s *Set) ReadsPackages() bool {
	return slices.ContainsFunc(s.policies, func(p *Policy) bool {
		return p.image != nil && (p.image.licenses != nil || slices.ContainsFunc(p.image.rules, func(r rule) bool { return r.deny != nil && r.deny.Reads("packages") }))
	})
}

// ReadsTexts says whether a verdict on an image may rest on what publishers wrote
// about a vulnerability: its title, page and their ratings.
func (s *Set) ReadsTexts() bool { return s.readsFields("title", "url", "ratings") }

// ReadsLikelihood says whether a verdict on an image may rest on how likely the
// exploitation of a vulnerability is, which is another number every day.
func (s *Set) ReadsLikelihood() bool { return s.readsFields("epss", "epssPercentile") }

// readsFields says whether a condition that judges images names one of them.
func (s *Set) readsFields(names ...string) bool {
	for _, p := range s.policies {
		if p.image == nil {
			continue
		}
		var all []*condition.Condition
		for i := range p.image.rules {
			all = append(all, p.image.rules[i].deny)
		}
		for i := range p.exceptions {
			all = append(all, p.exceptions[i].match)
		}
		for _, c := range all {
			if c != nil && slices.ContainsFunc(names, c.ReadsField) {
				return true
			}
		}
	}
	return false
}

func (s *imageSection) speaksOf(kind string) bool {
	switch kind {
	case event.LookedMalware:
		return s.malware != nil
	case event.LookedSecrets:
		return s.secrets != nil
	case event.LookedLicenses:
		return s.licenses != nil
	case event.LookedMisconfigurations:
		return s.misconfigurations != nil
	case event.LookedSignatures: // a manifest's digest is approved where they were looked for
		return len(s.origin.signedBy)+len(s.origin.approved) > 0
	}
	return false
}

func (s *imageSection) judge(j *judgement, p *Policy, facts ImageFacts) {
	if !facts.Scanned {
		s.unknown(j, p, "image.unscanned", "The image has not been scanned", "Scan it with `breakwater scan`")
		return // there is nothing to hold the rules against
	}
	kept := p.keep(j, facts.findings(), facts.Memo)
	if s.maxSeverity != nil {
		s.judgeSeverity(j, p, facts, kept)
	}
	s.judgeContent(j, p, &facts)
	s.judgeLicenses(j, p, &facts)
	if s.misconfigurations != nil && s.looked(j, p, &facts, event.LookedMisconfigurations, "Scan it with `breakwater scan`") {
		s.misconfigurations.judge(j, p, facts.Misconfigurations)
	}
	s.judgeOrigin(j, p, &facts)
	if len(s.rules) == 0 {
		return
	}
	vars := facts.variables()
	names := facts.names(facts.Config)
	vars["findings"], vars["packages"] = values(kept), facts.Packages
	for _, r := range s.rules {
		if r.deny.Reads("findings") && !facts.Judged {
			j.incomplete("Rule %s reads findings, and there is no intelligence to find vulnerabilities with", r.id)
		}
		j.apply(p, r, names, vars)
	}
}

// unknown deals with an image of which too little is known to judge it.
func (s *imageSection) unknown(j *judgement, p *Policy, id, message, remediation string) {
	if s.unscanned == UnscannedAllow {
		j.incomplete("%s; policy %s lets it pass", message, p.Name)
		return
	}
	j.violated(p, event.Violation{Rule: id, Message: message, Remediation: remediation, Source: s.source})
}

// keep leaves out the findings that an exception of the policy lifts.
func (p *Policy) keep(j *judgement, findings []Found, memo *Memo) []Found {
	if !slices.ContainsFunc(p.exceptions, func(x exception) bool { return x.match.Reads("finding") }) {
		return findings
	}
	lifter := p.lifter(j.now, j.subject, "image.maxSeverity")
	lifter.memo = memo
	for _, x := range lifter.exceptions {
		if x.match.Reads("finding") {
			lifter.aboutFindings = append(lifter.aboutFindings, aboutFinding{x.match, memo.of(x.match)})
		}
	}
	var kept []Found
	all := true
	for i, f := range findings {
		switch lifts := lifter.liftsFinding(f, i); {
		case lifts && all:
			all, kept = false, slices.Clone(findings[:i])
		case !lifts && !all:
			kept = append(kept, f)
		}
	}
	if all {
		return findings
	}
	return kept
}

func (s *imageSection) judgeSeverity(j *judgement, p *Policy, facts ImageFacts, findings []Found) {
	if !facts.Judged {
		s.unknown(j, p, "image.maxSeverity", "The image's vulnerabilities are not known: there is no intelligence to match its packages with",
			"Fetch intelligence with `breakwater intel update`")
		return
	}
	over := make([]Found, 0, len(findings))
	unrated := 0
	for _, f := range findings {
		if s.maxSeverity.exceeds(f.Finding) {
			over = append(over, f)
		} else if f.Severity.Rank() <= event.SeverityUnknown.Rank() {
			unrated++
		}
	}
	if unrated > 0 {
		j.incomplete("Findings without a published severity, which maxSeverity cannot judge: %d", unrated)
	}
	if len(over) == 0 {
		return
	}
	slices.SortStableFunc(over, func(a, b Found) int { return b.Severity.Rank() - a.Severity.Rank() })
	j.violated(p, event.Violation{
		Rule: "image.maxSeverity", Source: s.maxSeverity.source,
		Message:     overMessage(over, s.maxSeverity),
		Remediation: overRemediation(over),
	})
}

// named is how many findings or packages a sentence names before it counts.
const named = 5

func overMessage(over []Found, limit *maxSeverity) string {
	var list []string
	for _, f := range over[:min(len(over), named)] {
		list = append(list, fmt.Sprintf("%s (%s, %s %s)", f.ID, f.Severity, f.In.Name, f.In.Version))
	}
	noun := "vulnerabilities are"
	if len(over) == 1 {
		noun = "vulnerability is"
	}
	return fmt.Sprintf("%d %s above the accepted severity (%s): %s%s", len(over), noun, limit, strings.Join(list, ", "), more(len(over)))
}

func more(n int) string {
	if n <= named {
		return ""
	}
	return fmt.Sprintf(" and %d more", n-named)
}

// overRemediation says which packages to update, each once, and how many have
// no fix.
func overRemediation(over []Found) string {
	type update struct{ name, version string }
	var updates []string // the first ones: an image may have hundreds
	seen := make(map[update]bool, len(over))
	unfixed := 0
	for _, f := range over {
		step := update{f.In.Name, f.FixedVersion}
		switch {
		case f.FixedVersion == "":
			unfixed++
		case !seen[step]:
			if seen[step] = true; len(updates) < named {
				updates = append(updates, step.name+" to "+step.version)
			}
		}
	}
	var parts []string
	if len(updates) > 0 {
		parts = append(parts, "Update "+strings.Join(updates, ", ")+more(len(seen)))
	}
	if unfixed > 0 {
		parts = append(parts, fmt.Sprintf("%d without a published fix: remove the package or except it until a date", unfixed))
	}
	return strings.Join(parts, "; ")
}
