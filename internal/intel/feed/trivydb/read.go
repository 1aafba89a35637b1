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
	PublishedDate  time.Time
}

// advisory is an entry of a package's bucket; which fields are set depends on
// the kind of bucket.
type advisory struct {
	FixedVersion       string
	AffectedVersion    string
	VendorIDs          []string
	Severity           int
	Status             int
	Entries            []advisory
	VulnerableVersions []string
	PatchedVersions    []string
	UnaffectedVersions []string
}

// Sinks take what is read.
type Sinks struct {
	Advisory func(vuln.Advisory) error
	Rating   func(feed.Rating) error
	Skip     func(name string, err error)
}

const (
	maxValue = 4 << 20
	maxName  = 500
)

// Read reads a database. Advisories of Red Hat are left out: their buckets are
// by CPE, and need an image's content sets. What is not affected is left out.
func Read(r io.ReaderAt, size int64, to Sinks) error {
	f, root, err := openBolt(r, size)
	if err != nil {
		return fmt.Errorf("trivy.db: %w", err)
	}
	seen := false
	err = f.each(root, func(it item) error {
		if it.bucket == nil {
			return nil
		}
		name, inner := string(it.key), *it.bucket
		if name == "vulnerability" {
			seen = true
			return f.each(inner, func(it item) error { return to.rate(it) })
		}
		ecosystem, source, ok := bucketMeans(name)
		if !ok {
			return nil
		}
		seen = true
		return f.each(inner, func(pkg item) error {
			if pkg.bucket == nil {
				return nil
			}
			target := target{ecosystem, source, string(pkg.key)}
			return f.each(*pkg.bucket, func(it item) error { return to.advise(target, it) })
		})
	})
	if err == nil && !seen {
		err = errors.New("it holds no vulnerabilities: not a trivy-db of schema 2")
	}
	if err != nil {
		return fmt.Errorf("trivy.db: %w", err)
	}
	return nil
}

// bucketMeans gives the ecosystem of a bucket's advisories, and whose they are.
func bucketMeans(name string) (ecosystem, source string, ok bool) {
	if prefix, _, found := strings.Cut(name, "::"); found {
		for _, e := range [...]struct{ prefix, ecosystem string }{
			{"npm", "npm"}, {"pip", "PyPI"}, {"composer", "Packagist"}, {"rubygems", "RubyGems"}, {"cargo", "crates.io"},
			{"nuget", "NuGet"}, {"maven", "Maven"}, {"go", "Go"}, {"conan", "ConanCenter"}, {"erlang", "Hex"}, {"pub", "Pub"},
			{"swift", "SwiftURL"}, {"bitnami", "Bitnami"}, {"julia", "Julia"},
		} {
			if e.prefix == prefix {
				return e.ecosystem, "osv", true
			}
		}
		return "", "", false
	}
	for _, d := range [...]struct{ prefix, family, source string }{
		{"debian ", "Debian:", "debian"}, {"ubuntu ", "Ubuntu:", "ubuntu"}, {"alpine ", "Alpine:", "alpine"},
		{"alma ", "AlmaLinux:", "almalinux"}, {"rocky ", "Rocky Linux:", "rocky"}, {"Oracle Linux ", "Oracle Linux:", "oracle"},
		{"amazon linux ", "Amazon Linux:", "amazon"}, {"Photon OS ", "Photon OS:", "photon"},
		{"Azure Linux ", "Azure Linux:", "azure"}, {"CBL-Mariner ", "Azure Linux:", "azure"},
		{"openSUSE Leap ", "openSUSE:Leap ", "suse"}, {"SUSE Linux Enterprise ", "SUSE:", "suse"}, {"SUSE Linux Enterprise Micro ", "SUSE:Micro ", "suse"},
	} {
		release, found := strings.CutPrefix(name, d.prefix)
		if !found || release == "" || strings.Contains(release, " ") || len(release) > 30 {
			continue
		}
		if d.source == "alpine" && release != "edge" {
			release = "v" + release
		}
		return vuln.Canonical(d.family + release), d.source, true
	}
	switch name {
	case "wolfi":
		return "Wolfi", "wolfi", true
	case "chainguard":
		return "Chainguard", "chainguard", true
	case "openSUSE Tumbleweed":
		return "openSUSE:Tumbleweed", "suse", true
	}
	return "", "", false
}

type target struct{ ecosystem, source, name string }

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

func (to Sinks) advise(t target, it item) error {
	id := string(it.key)
	if it.bucket != nil || len(id) > 200 || len(t.name) > maxName || !printable(id) || t.name == "" || len(it.value) > maxValue {
		to.Skip(t.name, errors.New("an entry is not usable"))
		return nil
	}
	var a advisory
	if err := json.Unmarshal(it.value, &a); err != nil {
		to.Skip(id, err)
		return nil
	}
	out := vuln.Advisory{ID: id, Source: t.source, URL: addressOf(id)}
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
		x, ok, err := e.affected(t)
		if err != nil {
			to.Skip(id, err)
			return nil
		}
		if ok {
			out.Affected = append(out.Affected, x)
		}
	}
	if len(out.Affected) == 0 {
		return nil
	}
	return to.Advisory(out)
}

func (a *advisory) affected(t target) (x vuln.Affected, ok bool, err error) {
	x = vuln.Affected{Ecosystem: t.ecosystem, Name: t.name}
	if t.source == "osv" {
		x.Ranges, err = Ranges(a.VulnerableVersions, a.PatchedVersions, a.UnaffectedVersions)
		return x, err == nil && len(x.Ranges) > 0, err
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

// rate gives the severities of an entry of "vulnerability".
func (to Sinks) rate(it item) error {
	id := string(it.key)
	var d detail
	if !strings.HasPrefix(id, "CVE-") || len(id) > 50 || !printable(id) || it.bucket != nil || len(it.value) > maxValue {
		return nil
	}
	if err := json.Unmarshal(it.value, &d); err != nil {
		to.Skip(id, err)
		return nil
	}
	for _, source := range []string{"nvd", "ghsa", "redhat"} {
		n, ok := d.VendorSeverity[source]
		if sev := severityOf(n); ok && sev != event.SeverityUnknown {
			vector := d.CVSS[source].V3Vector
			if vector == "" {
				vector = d.CVSS[source].V40Vector
			}
			if _, _, ok := vuln.FromCVSS(vector); !ok {
				vector = ""
			}
			return to.Rating(feed.Rating{CVE: id, Severity: sev, Source: source, Vector: vector})
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

// Ranges turns the constraints of other scanners' databases into ranges:
// alternatives are elements or joined by "||", conditions by "," or spaces
// (">=1.0, <1.2", "=1.5", "<2"). Versions patched or unaffected end a range
// that has no end of its own.
func Ranges(vulnerable, patched, unaffected []string) ([]vuln.Range, error) {
	if len(vulnerable)+len(patched)+len(unaffected) > 10_000 {
		return nil, errors.New("too many constraints")
	}
	if len(vulnerable) == 0 && len(patched) > 0 { // everything but what is patched
		return everythingBefore(patched)
	}
	var out []vuln.Range
	for _, alternative := range vulnerable {
		for _, part := range strings.Split(alternative, "||") {
			if strings.TrimSpace(part) == "" {
				continue
			}
			r, err := constraint(part)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// everythingBefore reads patched versions such as ">=1.2.3" or "~>1.1.5, >=1.2":
// below the lowest of a kind there is no fix.
func everythingBefore(patched []string) ([]vuln.Range, error) {
	var out []vuln.Range
	for _, alternative := range patched {
		for _, part := range strings.Split(alternative, "||") {
			conditions, err := split(part)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(conditions, func(c condition) bool {
				return c.op == ">=" || c.op == "=" || c.op == "~>" || c.op == "^" || c.op == "~"
			})
			if i < 0 {
				return nil, fmt.Errorf("constraint %q: no lowest patched version", clip(part))
			}
			out = append(out, vuln.Range{Events: []vuln.Point{{Introduced: "0"}, {Fixed: conditions[i].version}}})
		}
	}
	if len(out) > 1 {
		return nil, errors.New("several patched versions without the versions that are vulnerable")
	}
	return out, nil
}

type condition struct{ op, version string }

func split(part string) ([]condition, error) {
	var out []condition
	fields := strings.FieldsFunc(part, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	for i := 0; i < len(fields); i++ {
		text := fields[i]
		version := strings.TrimLeft(text, "<>=~^!")
		op := text[:len(text)-len(version)]
		if version == "" && i+1 < len(fields) { // ">= 1.0"
			i++
			version = fields[i]
		}
		if version == "" || len(version) > 200 || !printable(version) || strings.ContainsAny(version, "<>=|") {
			return nil, fmt.Errorf("constraint %q is not understood", clip(part))
		}
		out = append(out, condition{op, version})
	}
	return out, nil
}

func constraint(part string) (vuln.Range, error) {
	conditions, err := split(part)
	if err != nil || len(conditions) == 0 {
		return vuln.Range{}, errors.Join(err, errors.New("an empty constraint"))
	}
	from, end := vuln.Point{Introduced: "0"}, vuln.Point{}
	for _, c := range conditions {
		switch c.op {
		case ">=":
			from.Introduced = c.version
		case ">": // the version itself is not meant, which a range cannot say: what follows it is
			from.Introduced = c.version
		case "<":
			end = vuln.Point{Fixed: c.version}
		case "<=":
			end = vuln.Point{LastAffected: c.version}
		case "", "=", "==":
			from.Introduced, end = c.version, vuln.Point{LastAffected: c.version}
		default:
			return vuln.Range{}, fmt.Errorf("constraint %q: %q is not understood", clip(part), c.op)
		}
	}
	events := []vuln.Point{from}
	if end != (vuln.Point{}) {
		events = append(events, end)
	}
	return vuln.Range{Events: events}, nil
}

func clip(s string) string { return s[:min(len(s), 80)] }
