package intel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
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
	m := matching{bundle: b, distro: distro, known: b.manifest.Intelligence(),
		absent: map[string]int{}, unordered: map[string][]string{}, seen: map[string]bool{}}
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
	return findings, m.known, m.gaps(b.now()), nil
}

// matching is one call of Match.
type matching struct {
	bundle *Bundle
	distro report.Distro
	known  *report.Intelligence

	absent    map[string]int      // ecosystem → packages not judged
	unordered map[string][]string // ecosystem → versions that have no place
	seen      map[string]bool     // ecosystems that were judged
}

// subject is what advisories speak of.
type subject struct{ ecosystem, name, version string }

func (m *matching) judge(ctx context.Context, pkg event.Package) ([]event.Finding, error) {
	s := m.subjectOf(pkg)
	order, ordered := vuln.OrderOf(s.ecosystem)
	if _, known := m.known.Ecosystems[s.ecosystem]; !known || !ordered {
		m.absent[s.ecosystem]++
		return nil, nil
	}
	m.seen[s.ecosystem] = true
	if !m.bundle.packages.has(packageHash(s.ecosystem, s.name)) {
		return nil, nil // most packages: nothing is known of them
	}
	j, err := m.bundle.judged(ctx, s, order)
	if err != nil {
		return nil, err
	}
	if j.unordered {
		m.unordered[s.ecosystem] = append(m.unordered[s.ecosystem], s.name+" "+s.version)
	}
	if len(j.hits) == 0 {
		return nil, nil
	}
	findings := vuln.Merge(pkg, j.hits)
	for i := range findings {
		if err := m.bundle.enrich(ctx, &findings[i]); err != nil {
			return nil, err
		}
	}
	return findings, nil
}

// subjectOf names a package as advisories do. A distribution's package without
// a release in its ecosystem belongs to the image's distribution; Debian's
// releases go by number, those without one by codename.
func (m *matching) subjectOf(pkg event.Package) subject {
	s := subject{pkg.Ecosystem, pkg.Name, pkg.Version}
	if pkg.Source != "" {
		s.name = pkg.Source
	}
	if pkg.SourceVersion != "" {
		s.version = pkg.SourceVersion
	}
	base, release, _ := strings.Cut(pkg.Ecosystem, ":")
	if base != "Debian" {
		return s
	}
	if release == "" {
		release = m.distro.Version
	}
	release, _, _ = strings.Cut(release, ".") // 12.4 is a point release of 12
	if release == "" {
		release = m.distro.Codename
	}
	s.ecosystem = "Debian:" + release
	return s
}

// judgement is what the bundle says of one version of a package. It is
// remembered: binary packages of one source, and many images, share them.
type judgement struct {
	hits      []vuln.Hit
	unordered bool // the version has no place in the ecosystem's order
}

func (b *Bundle) judged(ctx context.Context, s subject, order vuln.Order) (judgement, error) {
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
	if b.judgedHits += len(j.hits) + 1; b.judgedHits > maxCachedEntries {
		clear(b.judgements)
		b.judgedHits = len(j.hits) + 1
	}
	b.judgements[s] = j
	return j, nil
}

func (b *Bundle) judge(ctx context.Context, s subject, order vuln.Order) (j judgement, err error) {
	entries, err := b.entries(ctx, packageKey{s.ecosystem, s.name})
	if err != nil || len(entries) == 0 {
		return j, err
	}
	_, err = order(s.version, s.version)
	j.unordered = err != nil
	modular := strings.Contains(s.version, ".module")
	for _, e := range entries {
		for i := range e.affected {
			if e.affected[i].Module != "" && !modular {
				continue // about builds of a module, which this is not
			}
			// An error is the subject's (told above) or a malformed
			// range's, which says nothing about any version.
			hit, fixed, _ := e.affected[i].Affects(order, s.version)
			if !hit {
				continue
			}
			advisory, err := b.advisory(ctx, e.feed, e.id)
			if err != nil {
				return j, err
			}
			j.hits = append(j.hits, vuln.NewHit(advisory, &e.affected[i], fixed))
			break
		}
	}
	return j, nil
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
