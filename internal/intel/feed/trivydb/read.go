package trivydb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Version is the schema that this package reads.
const Version = 2

// Metadata is metadata.json beside the database.
type Metadata struct {
	Version    int
	UpdatedAt  time.Time
	NextUpdate time.Time
}

// ParseMetadata reads metadata.json; another schema is an error.
func ParseMetadata(data []byte) (m Metadata, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("metadata.json: %w", err)
	}
	if m.Version != Version {
		return m, fmt.Errorf("metadata.json: schema %d; %d can be imported", m.Version, Version)
	}
	return m, nil
}

// detail is an entry of the bucket "vulnerability".
type detail struct {
	Title          string
	VendorSeverity map[string]int
	CVSS           map[string]struct{ V2Vector, V3Vector, V40Vector string }
}

// advisory is an entry of a package's bucket; which fields are set depends on
// the kind of bucket.
type advisory struct {
	FixedVersion       string
	AffectedVersion    string
	VendorIDs          []string
	OSes               []string // on which alone it is a vulnerability; none: on all
	Severity           int
	Status             int
	Entries            []advisory
	VulnerableVersions []string
	PatchedVersions    []string
	UnaffectedVersions []string
}

// Sinks take what is read.
type Sinks struct {
	// Advisory's record is the publisher that trivy-db names: several speak of
	// the same CVE, also of the same package.
	Advisory func(record string, a vuln.Advisory) error
	// Rating's record is who rates.
	Rating func(record string, r feed.Rating) error
	Skip   func(name string, err error)
}

const (
	maxValue = 4 << 20
	maxName  = 500
)

// Read reads a database. Advisories of Red Hat are left out: their buckets are
// by CPE, and need an image's content sets. What is not affected is left out.
func Read(r io.ReaderAt, size int64, to Sinks) error {
	err := read(r, size, to)
	if err != nil {
		return fmt.Errorf("trivy.db: %w", err)
	}
	return nil
}

func read(r io.ReaderAt, size int64, to Sinks) error {
	f, root, err := openBolt(r, size)
	if err != nil {
		return err
	}
	d := reading{to: to, told: map[string]told{}}
	// What is told by vulnerability first: it is a part of every advisory.
	seen := false
	if err := f.buckets(root, func(name string, inner bucket) error {
		if name != "vulnerability" {
			return nil
		}
		seen = true
		return f.each(inner, d.rate)
	}); err != nil {
		return err
	}
	f.visits = 0
	if err := f.buckets(root, func(name string, inner bucket) error {
		p, ok := placeOf(name)
		if !ok {
			return nil
		}
		seen = true
		return f.buckets(inner, func(pkg string, advisories bucket) error {
			return f.each(advisories, func(it item) error { return d.advise(p, pkg, it) })
		})
	}); err != nil {
		return err
	}
	if !seen {
		return errors.New("it holds no vulnerabilities: not a trivy-db of schema 2")
	}
	return nil
}

// buckets calls with every bucket of a bucket.
func (f *boltFile) buckets(b bucket, call func(name string, inner bucket) error) error {
	return f.each(b, func(it item) error {
		if it.bucket == nil {
			return nil
		}
		return call(string(it.key), *it.bucket)
	})
}

// reading is one database that is read.
type reading struct {
	to   Sinks
	told map[string]told // by vulnerability
}

// told is what the bucket "vulnerability" says of one, as far as advisories
// need it.
type told struct {
	title string
	by    [len(vendors)]uint8 // severities, trivy's numbers
}

// vendors whose word on severity an advisory of theirs carries, as trivy-db
// names them.
var vendors = [...]string{"debian", "ubuntu", "alma", "rocky", "oracle-oval", "amazon", "photon", "azure", "cbl-mariner", "suse-cvrf", "bitnami", "ghsa", "ruby-advisory-db", "glad"}

// place is what a bucket's advisories are about, and who publishes them.
type place struct {
	ecosystem string
	source    string // ours
	vendor    string // trivy-db's
}

// placeOf reads the name of a bucket.
func placeOf(name string) (p place, ok bool) {
	if prefix, publisher, found := strings.Cut(name, "::"); found {
		for _, e := range [...]struct{ prefix, ecosystem string }{
			{"npm", "npm"}, {"pip", "PyPI"}, {"composer", "Packagist"}, {"rubygems", "RubyGems"}, {"cargo", "crates.io"},
			{"nuget", "NuGet"}, {"maven", "Maven"}, {"go", "Go"}, {"conan", "ConanCenter"}, {"erlang", "Hex"}, {"pub", "Pub"},
			{"swift", "SwiftURL"}, {"bitnami", "Bitnami"}, {"julia", "Julia"},
		} {
			if e.prefix == prefix {
				return place{e.ecosystem, "osv", publisherOf(publisher)}, true
			}
		}
		return p, false
	}
	for _, d := range [...]struct{ prefix, family, source, vendor string }{
		{"debian ", "Debian:", "debian", "debian"}, {"ubuntu ", "Ubuntu:", "ubuntu", "ubuntu"}, {"alpine ", "Alpine:", "alpine", "alpine"},
		{"alma ", "AlmaLinux:", "almalinux", "alma"}, {"rocky ", "Rocky Linux:", "rocky", "rocky"}, {"Oracle Linux ", "Oracle Linux:", "oracle", "oracle-oval"},
		{"amazon linux ", "Amazon Linux:", "amazon", "amazon"}, {"Photon OS ", "Photon OS:", "photon", "photon"},
		{"Azure Linux ", "Azure Linux:", "azure", "azure"}, {"CBL-Mariner ", "Azure Linux:", "azure", "cbl-mariner"},
		{"openSUSE Leap ", "openSUSE:Leap ", "suse", "suse-cvrf"}, {"SUSE Linux Enterprise ", "SUSE:", "suse", "suse-cvrf"}, {"SUSE Linux Enterprise Micro ", "SUSE:Micro ", "suse", "suse-cvrf"},
	} {
		release, found := strings.CutPrefix(name, d.prefix)
		if !found || release == "" || strings.Contains(release, " ") || len(release) > 30 {
			continue
		}
		if d.source == "alpine" && release != "edge" {
			release = "v" + release
		}
		return place{vuln.Canonical(d.family + release), d.source, d.vendor}, true
	}
	switch name {
	case "wolfi":
		return place{"Wolfi", "wolfi", "wolfi"}, true
	case "chainguard":
		return place{"Chainguard", "chainguard", "chainguard"}, true
	case "openSUSE Tumbleweed":
		return place{"openSUSE:Tumbleweed", "suse", "suse-cvrf"}, true
	}
	return p, false
}

// publisherOf is the name by which a publisher of a language's advisories rates
// them, told by the name of its bucket.
func publisherOf(name string) string {
	switch {
	case strings.HasPrefix(name, "GitHub Security Advisory"):
		return "ghsa"
	case name == "Ruby Advisory Database":
		return "ruby-advisory-db"
	case name == "Bitnami Vulnerability Database":
		return "bitnami"
	case strings.HasPrefix(name, "GitLab Advisory Database"):
		return "glad"
	case len(name) > 100 || strings.Contains(name, "#"):
		return "another"
	}
	return name
}

// severityOf gives trivy's number: 0 unknown to 4 critical.
func severityOf(n int) event.Severity {
	words := []event.Severity{event.SeverityUnknown, event.SeverityLow, event.SeverityMedium, event.SeverityHigh, event.SeverityCritical}
	if n < 0 || n >= len(words) {
		return event.SeverityUnknown
	}
	return words[n]
}

// stateOf gives trivy's status; ok is false for what is not affected.
func stateOf(status int, fixed string) (state event.FixState, ok bool) {
	states := []event.FixState{"", "", event.FixAffected, event.FixFixed, event.FixInvestigating, event.FixWontFix, event.FixDeferred, event.FixEndOfLife}
	if status == 1 || status < 0 || status >= len(states) {
		return "", false
	}
	if fixed != "" {
		return event.FixFixed, true
	}
	return states[status], true
}

func (d *reading) advise(p place, name string, it item) error {
	id := string(it.key)
	if it.bucket != nil || len(id) > 200 || len(name) > maxName || !printable(id) || name == "" || len(it.value) > maxValue {
		d.to.Skip(name, errors.New("an entry is not usable"))
		return nil
	}
	var a advisory
	if err := json.Unmarshal(it.value, &a); err != nil {
		d.to.Skip(id, err)
		return nil
	}
	out := vuln.Advisory{ID: id, Source: p.source, URL: addressOf(id), Title: d.told[id].title}
	if sev := d.severity(id, p.vendor); sev != event.SeverityUnknown {
		out.Severity, out.SeveritySource = sev, severitySource(p)
	}
	for _, vendor := range a.VendorIDs {
		// An erratum mends several vulnerabilities: it is no name of this one.
		if strings.HasPrefix(vendor, "GHSA-") && len(vendor) < 100 && printable(vendor) {
			out.Aliases = append(out.Aliases, vendor)
		}
	}
	entries := a.Entries
	if len(entries) == 0 {
		entries = []advisory{a}
	}
	for _, e := range entries {
		x, ok, err := e.affected(p, name)
		if err != nil {
			d.to.Skip(id, err)
			return nil
		}
		if ok {
			out.Affected = append(out.Affected, x)
		}
	}
	if len(out.Affected) == 0 {
		return nil
	}
	return d.to.Advisory(p.vendor, out)
}

func (d *reading) severity(id, vendor string) event.Severity {
	if i := slices.Index(vendors[:], vendor); i >= 0 {
		return severityOf(int(d.told[id].by[i]))
	}
	return event.SeverityUnknown
}

// severitySource: distributions go by their own names here.
func severitySource(p place) string {
	if p.source == "osv" {
		return p.vendor
	}
	return p.source
}

func (a *advisory) affected(p place, name string) (x vuln.Affected, ok bool, err error) {
	x = vuln.Affected{Ecosystem: p.ecosystem, Name: name}
	if p.source == "osv" {
		if len(a.OSes) > 0 && !slices.Contains(a.OSes, "linux") {
			return x, false, nil // nothing that runs in a container
		}
		x.Ranges, err = a.ranges(p.ecosystem)
		return x, err == nil && len(x.Ranges) > 0, err
	}
	if module, inner, found := strings.Cut(name, "::"); found {
		x.Module, x.Name = module, inner // nodejs:18::npm
	}
	state, ok := stateOf(a.Status, a.FixedVersion)
	if !ok {
		return x, false, nil
	}
	if len(a.FixedVersion) > 200 || len(a.AffectedVersion) > 200 {
		return x, false, errors.New("a version is too long")
	}
	x.State = state
	if sev := severityOf(a.Severity); sev != event.SeverityUnknown {
		x.Severity = sev
	}
	events := []vuln.Point{{Introduced: "0"}}
	if a.FixedVersion != "" {
		events = append(events, vuln.Point{Fixed: a.FixedVersion})
	}
	x.Ranges = []vuln.Range{{Events: events}}
	return x, true, nil
}

// ranges are what is vulnerable, by itself or as what is neither patched nor
// unaffected.
func (a *advisory) ranges(ecosystem string) ([]vuln.Range, error) {
	if len(a.VulnerableVersions) > 0 {
		return Ranges(a.VulnerableVersions)
	}
	order, ok := vuln.OrderOf(ecosystem)
	if !ok {
		return nil, fmt.Errorf("the versions of %s have no known order", ecosystem)
	}
	return Outside(order, slices.Concat(a.PatchedVersions, a.UnaffectedVersions))
}

// rate keeps what an entry of "vulnerability" says, and gives its severities.
func (d *reading) rate(it item) error {
	id := string(it.key)
	var x detail
	if len(id) > 200 || !printable(id) || it.bucket != nil || len(it.value) > maxValue {
		return nil
	}
	if err := json.Unmarshal(it.value, &x); err != nil {
		d.to.Skip(id, err)
		return nil
	}
	t := told{title: feed.Title(x.Title)}
	for i, vendor := range vendors {
		if n := x.VendorSeverity[vendor]; severityOf(n) != event.SeverityUnknown {
			t.by[i] = uint8(n)
		}
	}
	d.told[id] = t
	if !strings.HasPrefix(id, "CVE-") || len(id) > 50 {
		return nil
	}
	for _, source := range []string{"nvd", "ghsa", "redhat"} {
		sev := severityOf(x.VendorSeverity[source])
		if sev == event.SeverityUnknown {
			continue
		}
		vector := x.CVSS[source].V3Vector
		if vector == "" {
			vector = x.CVSS[source].V40Vector
		}
		if _, _, ok := vuln.FromCVSS(vector); !ok {
			vector = ""
		}
		if err := d.to.Rating(source, feed.Rating{CVE: id, Severity: sev, Source: source, Vector: vector}); err != nil {
			return err
		}
	}
	return nil
}

func addressOf(id string) string {
	switch {
	case strings.HasPrefix(id, "CVE-"):
		return "https://nvd.nist.gov/vuln/detail/" + id
	case strings.HasPrefix(id, "GHSA-"):
		return "https://github.com/advisories/" + id
	}
	return ""
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}
