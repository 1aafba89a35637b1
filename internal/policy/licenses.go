package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/license"
)

// licenseLimit is what a policy says about licences.
type licenseLimit struct {
	source      string
	restrict    bool // only allow passes
	allow, deny []licensePattern
}

// licensePattern is an SPDX id, or the beginning of one before "*".
type licensePattern struct {
	text   string
	prefix bool
}

const maxLicenses = 1_000

func parseLicenseLimit(v document.Value) *licenseLimit {
	l := &licenseLimit{source: v.Source()}
	ok := v.Map(document.Fields{
		"allow": func(v document.Value) { l.restrict, l.allow = true, licensePatterns(v) },
		"deny":  func(v document.Value) { l.deny = licensePatterns(v) },
	})
	if ok && len(v.Pairs) == 0 {
		v.Fail("is empty: give allow or deny")
	}
	return l
}

func licensePatterns(v document.Value) []licensePattern {
	var list []licensePattern
	v.List(maxLicenses, func(v document.Value) {
		text := v.String()
		base, prefix := strings.CutSuffix(text, "*")
		e, err := license.Parse(strings.TrimSuffix(base, "-"))
		switch {
		case text == "":
			return
		case base == "" || err != nil || e.String() != strings.TrimSuffix(base, "-") || strings.Contains(e.String(), " OR ") || strings.Contains(e.String(), " AND "):
			v.Fail("%q is no SPDX id: write MIT, GPL-2.0-only WITH Classpath-exception-2.0, or AGPL-* for several", text)
		case !prefix && license.Normalise(text) != text:
			v.Fail("%q is not how SPDX names it: write %s", text, license.Normalise(text))
		}
		list = append(list, licensePattern{base, prefix})
	})
	return list
}

func matchesLicense(list []licensePattern, id string) bool {
	base, _, with := strings.Cut(id, " WITH ")
	return slices.ContainsFunc(list, func(p licensePattern) bool {
		return p.is(id) || with && p.is(base)
	})
}

func (p licensePattern) is(id string) bool {
	return id == p.text || p.prefix && strings.HasPrefix(id, p.text)
}

// passes says whether one licence is accepted. One with an exception is
// accepted when it stands in allow itself, whatever is said about its base.
func (l *licenseLimit) passes(id string) bool {
	if strings.Contains(id, " WITH ") && slices.ContainsFunc(l.allow, func(p licensePattern) bool { return p.is(id) }) {
		return true
	}
	return !matchesLicense(l.deny, id) && (!l.restrict || matchesLicense(l.allow, id))
}

// judgeLicenses holds the packages and licence files against the lists.
func (s *imageSection) judgeLicenses(j *judgement, p *Policy, facts *ImageFacts) {
	if s.licenses == nil || !s.looked(j, p, facts, event.LookedLicenses, "Scan it with `breakwater scan --licenses`") {
		return
	}
	var over []string
	unknown := 0
	for i := range facts.Packages {
		x := &facts.Packages[i]
		if len(x.Licenses) == 0 {
			unknown++
		} else if !s.licenses.accepts(license.All(x.Licenses)) {
			over = append(over, fmt.Sprintf("%s %s (%s)", x.Name, x.Version, strings.Join(x.Licenses, ", ")))
		}
	}
	for _, x := range facts.Licenses {
		if !s.licenses.accepts(x.Expression) {
			over = append(over, fmt.Sprintf("%s (%s)", placeText(x.Place), x.Expression))
		}
	}
	if unknown > 0 {
		j.incomplete("Packages without a known licence: %d", unknown)
	}
	refuseContent(j, p, over, event.Violation{Rule: "image.licenses", Source: s.licenses.source,
		Remediation: "Replace what has them, or allow the licence after asking who answers for it"}, "licence that is not accepted", "licences that are not accepted")
}

func (l *licenseLimit) accepts(expression string) bool {
	e, err := license.Parse(expression)
	return err == nil && e.Holds(l.passes)
}
