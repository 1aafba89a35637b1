package intel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// When data count as old. Publishers of these ecosystems write daily.
const (
	maxUnconfirmed = 7 * 24 * time.Hour   // since a publisher confirmed them
	maxUnchanged   = 365 * 24 * time.Hour // since its newest change
)

// Match finds the known vulnerabilities of packages: those of a distribution by
// source package and source version, others by name and version. Findings come
// in the order of the packages, then by id; one vulnerability of one package is one finding.
// gaps says, a sentence each, what could not be judged or only with old data.
// used names the bundle. An error means that the bundle could not be read.
func (b *Bundle) Match(ctx context.Context, distro report.Distro, pkgs []event.Package) (findings []event.Finding, used *report.Intelligence, gaps []string, err error) {
	m := newMatching(b, distro)
	m.owners = owners(pkgs)
	for _, pkg := range pkgs {
		if err := ctx.Err(); err != nil {
			return nil, nil, nil, err
		}
		found, err := m.judge(ctx, pkg)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("read the intelligence bundle %s: %w", b.manifest.Version, err)
		}
		findings = append(findings, found...)
	}
	return findings, m.known, append(m.gaps(b.now()), ended(distro, m.home, b.now())...), nil
}

// ended tells of a distribution that is maintained no more.
func ended(distro report.Distro, home string, now time.Time) []string {
	end := distro.EndOfLife
	if end.IsZero() || !now.After(end.AddDate(0, 0, 1)) {
		return nil
	}
	return []string{fmt.Sprintf("%s reached its end of life on %s: no more advisories are published for it", title(home), end.Format(time.DateOnly))}
}

// matching is one call of Match.
type matching struct {
	bundle *Bundle
	home   string                    // the ecosystem of the image's distribution, "" when it is not known
	owners map[string]*event.Package // by purl
	known  *report.Intelligence

	scopes    map[string]scope    // by ecosystem as packages write it
	absent    map[string]int      // ecosystem → packages not judged
	unordered map[string][]string // ecosystem → versions that have no place
	seen      map[string]bool     // ecosystems that were judged
}

func newMatching(b *Bundle, distro report.Distro) *matching {
	return &matching{bundle: b, home: vuln.Distribution(distro.ID, distro.Version, distro.Codename), known: b.manifest.Intelligence(),
		scopes: map[string]scope{}, absent: map[string]int{}, unordered: map[string][]string{}, seen: map[string]bool{}}
}

// scope is what there is to know of an ecosystem as packages write it.
type scope struct {
	name  string     // as advisories have it
	order vuln.Order // nil: nothing can be judged
	known bool       // the bundle has advisories
}

func (m *matching) judge(ctx context.Context, pkg event.Package) ([]event.Finding, error) {
	if pkg.Owner != "" && m.rules(ownerOf(m.home, m.owners[pkg.Owner])) {
		return nil, nil // the distribution's package is judged, by what it says of it
	}
	at := m.scope(pkg.Ecosystem)
	if !at.known || at.order == nil {
		m.absent[at.name]++
		return nil, nil
	}
	m.seen[at.name] = true
	s := vuln.SubjectOf(&pkg, at.name)
	if !m.bundle.mayKnow(s) {
		return nil, nil // most packages: nothing is known of them
	}
	j, err := m.bundle.judged(ctx, s, at.order)
	if err != nil {
		return nil, err
	}
	if j.unordered {
		m.unordered[at.name] = append(m.unordered[at.name], s.Name+" "+s.Version)
	}
	findings := slices.Clone(j.findings)
	for i := range findings {
		findings[i].Package = pkg
	}
	return findings, nil
}

// scope finds an ecosystem. A distribution's package that names no release
// belongs to the image's distribution.
func (m *matching) scope(ecosystem string) scope {
	at, ok := m.scopes[ecosystem]
	if ok {
		return at
	}
	at.name = ecosystemOf(ecosystem, m.home)
	at.order, _ = vuln.OrderOf(at.name)
	_, at.known = m.known.Ecosystems[at.name]
	m.scopes[ecosystem] = at
	return at
}

// ecosystemOf is an ecosystem as advisories have it. A distribution's package
// that names no release belongs to home, the image's distribution.
func ecosystemOf(ecosystem, home string) string {
	name := vuln.Canonical(ecosystem)
	if family, _, _ := strings.Cut(home, ":"); name == family && family != "" {
		return home
	}
	return name
}

// mayKnow asks the filter, which is never wrong about what is not there.
func (b *Bundle) mayKnow(s vuln.Subject) bool {
	return b.packages.has(packageHash(s.Ecosystem, s.Name)) ||
		s.Source != "" && b.packages.has(packageHash(s.Ecosystem, s.Source))
}

// judgement is what the bundle says of one version of a package. It is
// remembered: binary packages of one source, and many images, share them.
type judgement struct {
	findings  []event.Finding // without their Package
	unordered bool            // the version has no place in the ecosystem's order
}

func (b *Bundle) judged(ctx context.Context, s vuln.Subject, order vuln.Order) (judgement, error) {
	b.mu.Lock()
	known, ok := b.judgements[s]
	b.mu.Unlock()
	if ok {
		return known, nil
	}
	j, err := b.judge(ctx, s, order)
	if err != nil {
		return j, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.judgedFindings += len(j.findings) + 1; b.judgedFindings > maxJudged {
		clear(b.judgements)
		b.judgedFindings = len(j.findings) + 1
	}
	b.judgements[s] = j
	return j, nil
}

// Forget gives back the memory of what was judged so far; it is looked up again
// when it is asked for.
func (b *Bundle) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.judgements, b.cache = map[vuln.Subject]judgement{}, map[packageKey][]entry{} // clear keeps their room
	b.details, b.aboutCVE = map[packageKey]vuln.Advisory{}, map[string]about{}
	b.judgedFindings, b.cached = 0, 0
}

func (b *Bundle) judge(ctx context.Context, s vuln.Subject, order vuln.Order) (j judgement, err error) {
	var hits []vuln.Hit
	for _, l := range s.Lookups() {
		entries, err := b.entries(ctx, packageKey{s.Ecosystem, l.Name})
		if err != nil {
			return j, err
		}
		if _, err := order(l.Version, l.Version); err != nil && len(entries) > 0 {
			j.unordered = true
		}
		for _, e := range entries {
			hit, ok, err := b.hit(ctx, s, l, e, order)
			if err != nil {
				return j, err
			}
			if !ok {
				continue
			}
			for _, one := range feed.PerVulnerability(hit.Advisory) {
				hit.Advisory = one
				hits = append(hits, hit)
			}
		}
	}
	j.findings = vuln.Merge(event.Package{}, hits)
	for i := range j.findings {
		if err := b.enrich(ctx, &j.findings[i]); err != nil {
			return j, err
		}
	}
	return j, nil
}

// hit asks one advisory's entry about the subject.
func (b *Bundle) hit(ctx context.Context, s vuln.Subject, l vuln.Lookup, e entry, order vuln.Order) (h vuln.Hit, ok bool, err error) {
	for i := range e.affected {
		a := &e.affected[i]
		// An error is the subject's (told above) or a malformed range's, which
		// says nothing about any version.
		affected, fixed, _ := a.Affects(order, l.Version)
		if !affected || !s.Means(l, a, fixed) {
			continue
		}
		advisory, err := b.advisory(ctx, e.feed, e.id)
		return vuln.NewHit(advisory, a, fixed), err == nil, err
	}
	return h, false, nil
}

// gaps tells what was not judged, and what with old data.
func (m *matching) gaps(now time.Time) []string {
	var gaps []string
	for _, ecosystem := range slices.Sorted(maps.Keys(m.absent)) {
		gaps = append(gaps, fmt.Sprintf("%s: no advisories in the bundle; %s not judged", title(ecosystem), count(m.absent[ecosystem])))
	}
	for _, ecosystem := range slices.Sorted(maps.Keys(m.unordered)) {
		names := m.unordered[ecosystem]
		gaps = append(gaps, fmt.Sprintf("%s: %s with a version that has no place in the ecosystem's order (%s); only exact versions were compared", title(ecosystem), count(len(names)), names[0]))
	}
	for _, ecosystem := range slices.Sorted(maps.Keys(m.seen)) {
		gaps = append(gaps, m.bundle.manifest.old(ecosystem, now)...)
	}
	return gaps
}

// old tells how the data of an ecosystem are out of date.
func (m Manifest) old(ecosystem string, now time.Time) []string {
	var out []string
	for _, s := range m.Sources {
		if _, ok := s.Ecosystems[ecosystem]; !ok {
			continue
		}
		if age := now.Sub(s.Fetched); age > maxUnconfirmed {
			out = append(out, fmt.Sprintf("%s: the advisories are of %s, %d days old; %s", title(ecosystem), s.Fetched.Format(time.DateOnly), int(age.Hours()/24), "run `breakwater intel update`"))
		}
		if !s.Updated.IsZero() && now.Sub(s.Updated) > maxUnchanged {
			out = append(out, fmt.Sprintf("%s: the newest advisory known to %s is of %s", title(ecosystem), s.Name, s.Updated.Format(time.DateOnly)))
		}
	}
	return out
}

func title(ecosystem string) string {
	if ecosystem == "" {
		return "packages of no ecosystem"
	}
	return strings.Replace(ecosystem, ":", " ", 1)
}

func count(n int) string {
	if n == 1 {
		return "1 package"
	}
	return fmt.Sprintf("%d packages", n)
}
