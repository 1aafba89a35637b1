package feed

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// update is one erratum of an updateinfo.xml, the form of yum repositories.
type update struct {
	Type     string `xml:"type,attr"`
	ID       string `xml:"id"`
	Title    string `xml:"title"`
	Severity string `xml:"severity"`
	Issued   struct {
		Date string `xml:"date,attr"`
	} `xml:"issued"`
	Updated struct {
		Date string `xml:"date,attr"`
	} `xml:"updated"`
	References []struct {
		ID   string `xml:"id,attr"`
		Type string `xml:"type,attr"`
		Href string `xml:"href,attr"`
	} `xml:"references>reference"`
	Packages []struct {
		Name    string `xml:"name,attr"`
		Epoch   string `xml:"epoch,attr"`
		Version string `xml:"version,attr"`
		Release string `xml:"release,attr"`
		Arch    string `xml:"arch,attr"`
	} `xml:"pkglist>collection>package"`
}

// ParseUpdateInfo reads a repository's updateinfo.xml (Amazon Linux publishes
// its ALAS so), compressed or not. Each CVE of a security erratum is one
// advisory about the binary packages that the erratum updates; errata without a
// CVE go by their own id, those that are not about security are left out.
func ParseUpdateInfo(r io.Reader, ecosystem, source string, each func(vuln.Advisory) error, skip func(name string, err error)) error {
	return eachElement(r, "updateinfo", "update", func(dec *xml.Decoder, start xml.StartElement) error {
		var u update
		if err := dec.DecodeElement(&u, &start); err != nil {
			return err
		}
		if u.Type != "security" {
			return nil
		}
		a, err := u.advisory(ecosystem, source)
		if err != nil {
			skip(clip(u.ID, maxID), err)
			return nil
		}
		return each(a)
	})
}

func (u *update) advisory(ecosystem, source string) (vuln.Advisory, error) {
	if u.ID == "" || len(u.ID) > maxID || !printable(u.ID) || len(u.Packages) > maxAffected || len(u.References) > maxAliases*10 {
		return vuln.Advisory{}, errors.New("the erratum is not usable")
	}
	a := vuln.Advisory{ID: u.ID, Source: source, Title: title(u.Title, ""), Published: dayOrTime(u.Issued.Date), Modified: dayOrTime(u.Updated.Date)}
	if sev, ok := vuln.FromWord(u.Severity); ok {
		a.Severity, a.SeveritySource = sev, source
	}
	for _, ref := range u.References {
		switch {
		case isCVE(ref.ID):
			a.Aliases = append(a.Aliases, ref.ID)
		case ref.Type == "self" && strings.HasPrefix(ref.Href, "https://"):
			a.URL = clip(ref.Href, 500)
		}
	}
	seen := map[string]bool{}
	for _, p := range u.Packages {
		version := evr(p.Epoch, p.Version, p.Release)
		if p.Name == "" || len(p.Name) > maxID || version == "" || p.Arch == "src" || seen[p.Name+" "+version] || isDebug(p.Name) {
			continue // each architecture has its own entry of the same version
		}
		seen[p.Name+" "+version] = true
		a.Affected = append(a.Affected, vuln.Affected{Ecosystem: ecosystem, Name: p.Name, Ranges: below(version)})
	}
	return a, nil
}

// isDebug: packages of debugging symbols are on no image and double every feed.
func isDebug(name string) bool {
	return strings.HasSuffix(name, "-debuginfo") || strings.HasSuffix(name, "-debugsource")
}

func evr(epoch, version, release string) string {
	if version == "" || len(epoch)+len(version)+len(release) > maxID {
		return ""
	}
	if epoch == "" {
		epoch = "0"
	}
	if release != "" {
		version += "-" + release
	}
	return epoch + ":" + version
}

// below is every version before one.
func below(version string) []vuln.Range {
	return []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}, {Fixed: version}}}}
}

// PerVulnerability makes of an erratum, which mends several CVEs at once and has
// them as aliases, one advisory per CVE; the erratum stays in its title and
// address. Anything else stays as it is. Bundles hold errata as they are, once,
// and whoever finds one takes it apart.
func PerVulnerability(a vuln.Advisory) []vuln.Advisory {
	var cves []string
	for _, alias := range a.Aliases {
		if isCVE(alias) {
			cves = append(cves, alias)
		}
	}
	cves = slices.Compact(slices.Sorted(slices.Values(cves)))
	if isCVE(a.ID) || len(cves) == 0 || !isErratum(a.ID) {
		return []vuln.Advisory{a}
	}
	out := make([]vuln.Advisory, len(cves))
	for i, cve := range cves {
		out[i] = a
		out[i].ID, out[i].Aliases = cve, nil
		if !strings.Contains(a.Title, a.ID) {
			out[i].Title = clip(strings.TrimSuffix(a.ID+": "+a.Title, ": "), maxTitle)
		}
	}
	return out
}

// isErratum: an id that names an update, which may mend several
// vulnerabilities, and not a vulnerability.
func isErratum(id string) bool {
	_, ok := erratum(id)
	return ok
}

// erratum gives the publisher of an update by the form of its id.
func erratum(id string) (source string, ok bool) {
	for _, e := range [...]struct{ prefix, source string }{
		{"ALSA-", "almalinux"}, {"ALBA-", "almalinux"}, {"ALEA-", "almalinux"},
		{"RLSA-", "rocky"}, {"RXSA-", "rocky"}, {"RLBA-", "rocky"}, {"RLEA-", "rocky"},
		{"RHSA-", "redhat"}, {"RHBA-", "redhat"}, {"RHEA-", "redhat"},
		{"ELSA-", "oracle"}, {"ELBA-", "oracle"}, {"ALAS", "amazon"},
		{"SUSE-", "suse"}, {"openSUSE-", "suse"}, {"USN-", "ubuntu"}, {"LSN-", "ubuntu"},
		{"DSA-", "debian"}, {"DLA-", "debian"}, {"PHSA-", "photon"}, {"MGASA-", "mageia"}, {"OESA-", "openeuler"},
	} {
		if strings.HasPrefix(id, e.prefix) {
			return e.source, true
		}
	}
	return "", false
}

// Bounds of XML documents.
const (
	maxXML        = 4 << 30
	maxXMLElement = 32 << 20
)

// eachElement calls read at every element of a name below the root, and bounds
// what one of them holds. Entities beyond XML's own five are errors of the
// decoder, so that nothing expands.
func eachElement(r io.Reader, what, name string, read func(*xml.Decoder, xml.StartElement) error) error {
	plain, err := Unpack(r, maxXML)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = plain.Close() }() // only read
	guard := &capped{plain, maxXMLElement}
	dec := xml.NewDecoder(guard)
	dec.CharsetReader = nil
	for elements := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) && elements > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		guard.left = maxXMLElement
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if elements++; start.Name.Local != name {
			continue
		}
		if err := read(dec, start); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
