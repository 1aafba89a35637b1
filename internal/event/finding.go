package event

import (
	"strings"
	"time"
)

// Severity of a finding, a detection or an incident, from none to critical.
type Severity string

// The severities.
const (
	SeverityUnknown    Severity = "unknown"
	SeverityNegligible Severity = "negligible"
	SeverityLow        Severity = "low"
	SeverityMedium     Severity = "medium"
	SeverityHigh       Severity = "high"
	SeverityCritical   Severity = "critical"
)

// Rank orders severities; a word that is none ranks below all (-1).
func (s Severity) Rank() int {
	switch s {
	case SeverityUnknown:
		return 0
	case SeverityNegligible:
		return 1
	case SeverityLow:
		return 2
	case SeverityMedium:
		return 3
	case SeverityHigh:
		return 4
	case SeverityCritical:
		return 5
	}
	return -1
}

// ParseSeverity reads a severity in any case; ok is false for other words.
func ParseSeverity(s string) (sev Severity, ok bool) {
	sev = Severity(strings.ToLower(strings.TrimSpace(s)))
	return sev, sev.Rank() >= 0
}

// Package is one installed piece of software.
type Package struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Ecosystem string `json:"ecosystem"` // OSV's name: Debian:12, npm, Go, …
	PURL      string `json:"purl"`
	// Source is the source package that advisories name, when it differs.
	Source        string `json:"source,omitempty"`
	SourceVersion string `json:"sourceVersion,omitempty"`
	Arch          string `json:"arch,omitempty"`
	// Module is the module stream (nodejs:18) that an RPM belongs to.
	Module     string   `json:"module,omitempty"`
	Path       string   `json:"path"`           // the evidence, without a leading slash
	Layer      string   `json:"layer"`          // diff id of the layer that brought it
	LayerIndex int      `json:"layerIndex"`     // from 0, the base
	Step       string   `json:"step,omitempty"` // the build step of that layer
	Licenses   []string `json:"licenses,omitempty"`
	// Locked: the evidence is a lock file or manifest. It says what somebody
	// wanted there, not that it is there.
	Locked bool `json:"locked,omitempty"`
	// Owner is the purl of the distribution's package that installed the evidence;
	// such a package is the distribution's to mend, and its advisories rule.
	Owner string `json:"owner,omitempty"`
}

// FixState says what the publisher of an advisory did about it.
type FixState string

// The fix states; policy decides about each, no flag hides them.
const (
	FixFixed         FixState = "fixed"
	FixAffected      FixState = "affected" // no fix yet
	FixWontFix       FixState = "will not fix"
	FixDeferred      FixState = "deferred"
	FixInvestigating FixState = "under investigation"
	FixEndOfLife     FixState = "end of life"
)

// Finding is one vulnerability in one package.
type Finding struct {
	ID       string   `json:"id"`                // the preferred one: CVE when there is one
	Aliases  []string `json:"aliases,omitempty"` // all other ids
	Title    string   `json:"title,omitempty"`
	Severity Severity `json:"severity"`
	// SeveritySource names who said so: debian, osv, cvss-v3, …
	SeveritySource string   `json:"severitySource,omitempty"`
	CVSS           string   `json:"cvss,omitempty"` // vector as published
	Package        Package  `json:"package"`
	State          FixState `json:"state"`
	FixedVersion   string   `json:"fixedVersion,omitempty"`
	KnownExploited bool     `json:"knownExploited,omitempty"`
	// EPSS is the probability of exploitation within 30 days (FIRST), 0 when
	// unknown; Percentile is its rank among all vulnerabilities, 0 to 1.
	EPSS       float64 `json:"epss,omitempty"`
	Percentile float64 `json:"epssPercentile,omitempty"`
	// Ratings is what each publisher says, sorted by source; Severity is the
	// one that counts.
	Ratings []Rating `json:"ratings,omitempty"`
	// VEX is the statement that speaks of this finding, if one does.
	VEX       *Statement `json:"vex,omitempty"`
	Published time.Time  `json:"published,omitzero"`
	Source    string     `json:"source"` // the data source: osv, debian
	URL       string     `json:"url,omitempty"`
}
