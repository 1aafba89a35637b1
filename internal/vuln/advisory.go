package vuln

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Advisory is what one publisher says about one vulnerability. The prose
// details of the publisher are not kept: a finding shows title and address.
type Advisory struct {
	ID        string    `json:"id"`
	Aliases   []string  `json:"aliases,omitempty"` // other names of the same vulnerability
	Title     string    `json:"title,omitempty"`
	URL       string    `json:"url,omitempty"`
	Published time.Time `json:"published,omitzero"`
	Modified  time.Time `json:"modified,omitzero"`
	// Severity is the publisher's own word, or computed from CVSS when it
	// gave none; SeveritySource says which (debian, osv, ghsa, cvss-v3, …).
	Severity       event.Severity `json:"severity,omitempty"`
	SeveritySource string         `json:"severitySource,omitempty"`
	CVSS           string         `json:"cvss,omitempty"` // vector as published
	Source         string         `json:"source"`         // the data source: osv, debian
	Withdrawn      bool           `json:"-"`
	Affected       []Affected     `json:"-"`
}

// Affected names the versions of one package that an advisory is about.
type Affected struct {
	Ecosystem string `json:"-"` // OSV's name, with the release: Debian:12
	Name      string `json:"-"` // a distribution's source package, else the package
	// Ranges and Versions are alternatives: a version is affected when any of
	// the ranges holds it or the list names it.
	Ranges   []Range  `json:"ranges,omitempty"`
	Versions []string `json:"versions,omitempty"`
	// State is the publisher's word on a fix; empty: fixed when a range says
	// in which version, else affected.
	State event.FixState `json:"state,omitempty"`
	// Severity is the publisher's word for this package and release, if it
	// differs from the advisory's; "debian" or "osv" is its source then.
	Severity event.Severity `json:"severity,omitempty"`
	// Module is the module stream (nodejs:18) whose builds alone are meant, in
	// distributions that have modules; their releases hold ".module+el8".
	Module string `json:"module,omitempty"`
}

// Range is a list of points in an ecosystem's version order at which a
// vulnerability appears or goes away.
type Range struct {
	Events []Point `json:"events"`
}

// Point is one event of a range; exactly one field is set. "0" as Introduced is
// before every version; "*" as Limit is after every version.
type Point struct {
	Introduced   string `json:"introduced,omitempty"`
	Fixed        string `json:"fixed,omitempty"`
	LastAffected string `json:"last_affected,omitempty"`
	Limit        string `json:"limit,omitempty"`
}

// version of the point, whichever it is.
func (p Point) version() string {
	switch {
	case p.Introduced != "":
		return p.Introduced
	case p.Fixed != "":
		return p.Fixed
	case p.LastAffected != "":
		return p.LastAffected
	}
	return p.Limit
}
