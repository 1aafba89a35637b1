package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Bounds of one record. The largest record in OSV's public data is about 5 MB
// (a list of every affected version of the kernel).
const (
	MaxRecord   = 16 << 20
	maxID       = 200
	maxTitle    = 240
	maxAliases  = 2_000 // errata of kernels mend hundreds of CVEs
	maxAffected = 20_000
	maxPoints   = 100_000 // of all ranges and versions together
)

// osvRecord holds the fields of the OSV schema that are used.
type osvRecord struct {
	ID        string         `json:"id"`
	Modified  string         `json:"modified"`
	Published string         `json:"published"`
	Withdrawn string         `json:"withdrawn"`
	Aliases   []string       `json:"aliases"`
	Upstream  []string       `json:"upstream"`
	Related   []string       `json:"related"`
	Summary   string         `json:"summary"`
	Details   string         `json:"details"`
	Severity  []osvSeverity  `json:"severity"`
	Affected  []osvAffected  `json:"affected"`
	Refs      []osvReference `json:"references"`
	Database  osvWord        `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvReference struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity []osvSeverity `json:"severity"`
	Ranges   []struct {
		Type   string       `json:"type"`
		Events []vuln.Point `json:"events"`
	} `json:"ranges"`
	Versions  []string `json:"versions"`
	Ecosystem osvWord  `json:"ecosystem_specific"`
	Database  osvWord  `json:"database_specific"`
}

// osvWord finds a severity word in the free-form objects of the schema, whose
// other contents may have any shape.
type osvWord struct {
	severity, priority, url string
	imports                 []goImport
}

// goImport is one package of a Go module that is vulnerable, on the systems that
// are named (https://go.dev/doc/security/vuln/database); none: on all.
type goImport struct {
	Systems []string `json:"goos"`
}

func (w *osvWord) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil // free-form: not an object, nothing of ours in it
	}
	_ = json.Unmarshal(fields["severity"], &w.severity) // absent or of another shape: no word
	_ = json.Unmarshal(fields["ubuntu_priority"], &w.priority)
	_ = json.Unmarshal(fields["url"], &w.url)
	_ = json.Unmarshal(fields["imports"], &w.imports)
	return nil
}

// elsewhere: it is no vulnerability on Linux, where containers run.
func (w *osvWord) elsewhere() bool {
	for _, i := range w.imports {
		if len(i.Systems) == 0 || slices.Contains(i.Systems, "linux") {
			return false
		}
	}
	return len(w.imports) > 0
}

// ParseOSV reads one OSV record. Ranges of commits (type GIT) are left out:
// packages have versions. A withdrawn record is returned with Withdrawn set.
func ParseOSV(data []byte) (vuln.Advisory, error) {
	if len(data) > MaxRecord {
		return vuln.Advisory{}, fmt.Errorf("the record is larger than %d bytes", MaxRecord)
	}
	var r osvRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return vuln.Advisory{}, fmt.Errorf("not an OSV record: %w", err)
	}
	if err := r.check(); err != nil {
		return vuln.Advisory{}, err
	}
	a := vuln.Advisory{
		ID: r.ID, Aliases: r.Aliases, Source: speaker(r.ID), Withdrawn: r.Withdrawn != "",
		Published: osvTime(r.Published), Modified: osvTime(r.Modified),
		Title: title(r.Summary, r.Details), URL: r.url(),
	}
	// Distributions' records (DEBIAN-CVE-…) name the CVE as upstream.
	if strings.Contains(r.ID, "-CVE-") {
		a.Aliases = append(a.Aliases, r.Upstream...)
	}
	// Errata name the CVEs that they mend as related, or as upstream.
	if isErratum(r.ID) {
		for _, id := range append(r.Related, r.Upstream...) {
			if isCVE(id) {
				a.Aliases = append(a.Aliases, id)
			}
		}
	}
	r.rate(&a)
	for i := range r.Affected {
		if affected, ok := r.Affected[i].convert(); ok {
			a.Affected = append(a.Affected, affected)
		}
	}
	return a, nil
}

func (r *osvRecord) check() error {
	if r.ID == "" || len(r.ID) > maxID || !printable(r.ID) {
		return errors.New("the record has no usable id")
	}
	if len(r.Aliases)+len(r.Upstream)+len(r.Related) > maxAliases || len(r.Affected) > maxAffected {
		return fmt.Errorf("%s: more than %d aliases or %d packages", r.ID, maxAliases, maxAffected)
	}
	points := 0
	for _, a := range r.Affected {
		points += len(a.Versions)
		for _, g := range a.Ranges {
			points += len(g.Events)
		}
	}
	if points > maxPoints {
		return fmt.Errorf("%s: more than %d versions and range events", r.ID, maxPoints)
	}
	for _, alias := range append(r.Aliases, r.Upstream...) {
		if len(alias) > maxID || !printable(alias) {
			return fmt.Errorf("%s: an alias is not usable", r.ID)
		}
	}
	return nil
}

// rate sets the advisory's severity: the publisher's word, else its vector.
func (r *osvRecord) rate(a *vuln.Advisory) {
	vectors := r.Severity
	words := []string{r.Database.severity}
	for _, x := range r.Affected {
		words = append(words, x.Ecosystem.severity, x.Ecosystem.priority, x.Database.severity)
		vectors = append(vectors, x.Severity...)
	}
	if word, _, ok := strings.Cut(r.Summary, ":"); ok && isErratum(r.ID) {
		words = append(words, word) // "Important: openssl security update"
	}
	a.Severity = event.SeverityUnknown
	for _, v := range vectors {
		if v.Type == "Ubuntu" {
			words = append(words, v.Score)
		}
		if sev, source, ok := vuln.FromCVSS(v.Score); ok && better(source, a.SeveritySource) {
			a.Severity, a.SeveritySource, a.CVSS = sev, source, v.Score
		}
	}
	for _, w := range words {
		if sev, ok := vuln.FromWord(w); ok {
			a.Severity, a.SeveritySource = sev, publisher(r.ID)
			return
		}
	}
}

// better: version 3 is what most policies were written for, then 4, then 2.
func better(source, than string) bool {
	rank := map[string]int{"": 0, "cvss-v2": 1, "cvss-v4": 2, "cvss-v3": 3}
	return rank[source] > rank[than]
}

func publisher(id string) string {
	if strings.HasPrefix(id, "GHSA-") {
		return "ghsa"
	}
	return speaker(id)
}

// speaker is the distribution whose record it is, else "osv".
func speaker(id string) string {
	if source, ok := erratum(id); ok {
		return source
	}
	if strings.HasPrefix(id, "UBUNTU-") {
		return "ubuntu"
	}
	return "osv"
}

func (r *osvRecord) url() string {
	if u := r.Database.url; strings.HasPrefix(u, "https://") {
		return clip(u, 500)
	}
	for _, ref := range r.Refs {
		if ref.Type == "ADVISORY" && strings.HasPrefix(ref.URL, "https://") {
			return clip(ref.URL, 500)
		}
	}
	return "https://osv.dev/vulnerability/" + r.ID
}

func (x *osvAffected) convert() (vuln.Affected, bool) {
	a := vuln.Affected{Ecosystem: vuln.Canonical(x.Package.Ecosystem), Name: x.Package.Name, Versions: x.Versions}
	if a.Name == "" || a.Ecosystem == "" || len(a.Name) > 500 || len(a.Ecosystem) > 100 || x.Ecosystem.elsewhere() {
		return a, false
	}
	for _, r := range x.Ranges {
		if r.Type == "SEMVER" || r.Type == "ECOSYSTEM" {
			a.Ranges = append(a.Ranges, vuln.Range{Events: r.Events})
		}
	}
	// Distributions' lists repeat their ranges, at a hundred times the size.
	if len(a.Ranges) > 0 && strings.Contains(a.Ecosystem, ":") {
		a.Versions = nil
	}
	return a, len(a.Ranges)+len(a.Versions) > 0
}

// osvTime reads RFC 3339; publishers that leave it empty give the zero time.
func osvTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

// title is the summary, else the first sentence or line of the details.
func title(summary, details string) string {
	s := summary
	if s == "" {
		s, _, _ = strings.Cut(strings.TrimSpace(details), "\n")
		if i := strings.Index(s, ". "); i > 0 {
			s = s[:i+1]
		}
	}
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return ' '
		}
		return c
	}, s)
	return clip(strings.TrimSpace(s), maxTitle)
}

// clip cuts at a rune's boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Title is one line of what publishers write about a vulnerability, bounded and
// without control characters.
func Title(text string) string { return title("", text) }
