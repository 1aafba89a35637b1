package vuln

import (
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Subject is what advisories can speak of when they mean a package: it is the
// same for all packages that get the same findings, and can be a map's key.
type Subject struct {
	Ecosystem, Name, Version string
	// Source and SourceVersion are empty where they are Name and Version.
	Source, SourceVersion string
	Module                string
}

// SubjectOf names a package, in the ecosystem of its place, as advisories do.
func SubjectOf(p *event.Package, ecosystem string) Subject {
	s := Subject{Ecosystem: ecosystem, Name: Name(ecosystem, p.Name), Version: p.Version, Module: p.Module}
	switch naming(ecosystem) {
	case bySource:
		// Binary packages of one source are one subject.
		s.Name, s.Version = first(p.Source, p.Name), first(p.SourceVersion, p.Version)
	case byBoth:
		if p.Source != p.Name {
			s.Source = p.Source
		}
		if s.Source != "" {
			s.SourceVersion = first(p.SourceVersion, p.Version)
		}
	}
	return s
}

// Lookup is one name under which advisories may speak of a subject.
type Lookup struct {
	Name, Version string
	Source        bool // the name is a source package's, and not the package's own
}

// Lookups lists the names, one or two.
func (s Subject) Lookups() []Lookup {
	own := Lookup{Name: s.Name, Version: s.Version}
	if s.Source == "" {
		return []Lookup{own}
	}
	return []Lookup{own, {Name: s.Source, Version: s.SourceVersion, Source: true}}
}

// Means says whether an entry that holds the version is about the subject at
// all; fixed is what Affects said.
//
// An entry about a module stream means builds of that stream only, and a fix
// that was built in a module replaces modular builds only: of two streams, each
// has versions of its own. Red Hat speaks of what it fixed by binary package,
// and of what it did not by source package ("component"); names that are the
// one and the other would be taken for each other.
func (s Subject) Means(l Lookup, a *Affected, fixed string) bool {
	if naming(s.Ecosystem) != byBoth {
		return true
	}
	modular := s.Module != "" || isModular(s.Version)
	switch {
	case a.Module != "" && s.Module != "" && a.Module != s.Module,
		a.Module != "" && !modular,
		fixed != "" && isModular(fixed) != modular:
		return false
	case !strings.HasPrefix(s.Ecosystem, "Red Hat") || s.Source == "":
		return true
	}
	return l.Source == (fixed == "")
}

// isModular: builds of modules say so in their release (".module+el8.9.0+…",
// AlmaLinux ".module_el8…").
func isModular(version string) bool { return strings.Contains(version, ".module") }

// How an ecosystem's advisories name packages.
const (
	byName   = iota
	bySource // a distribution's source packages
	byBoth   // binary packages, or source packages, or some each: RPM's distributions
)

func naming(ecosystem string) int {
	family, _, _ := strings.Cut(ecosystem, ":")
	switch family {
	case "Debian", "Ubuntu", "Alpine", "Wolfi", "Chainguard":
		return bySource
	case "Red Hat", "Rocky Linux", "AlmaLinux", "Oracle Linux", "Amazon Linux", "Photon OS", "Azure Linux", "Fedora", "SUSE", "openSUSE":
		return byBoth
	}
	return byName
}

// IsDistribution says whether an ecosystem is a distribution's release: its
// advisories are the ones that count for what it built, backports and all.
func IsDistribution(ecosystem string) bool { return naming(ecosystem) != byName }
