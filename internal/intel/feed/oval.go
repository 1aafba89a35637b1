package feed

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// definition is one OVAL definition. What it tests is told by its criteria's
// comments, which the generators of SUSE, Oracle and Azure Linux write in fixed
// words; so a document is read in one pass, without its tests and states.
type definition struct {
	ID    string `xml:"id,attr"`
	Class string `xml:"class,attr"`
	Meta  struct {
		Title string `xml:"title"`
		Refs  []struct {
			ID     string `xml:"ref_id,attr"`
			URL    string `xml:"ref_url,attr"`
			Source string `xml:"source,attr"`
		} `xml:"reference"`
		Advisory struct {
			Severity string `xml:"severity"`
			Issued   struct {
				Date string `xml:"date,attr"`
			} `xml:"issued"`
			CVEs []struct {
				ID   string `xml:",chardata"`
				CVSS string `xml:"cvss3,attr"`
			} `xml:"cve"`
		} `xml:"advisory"`
		Severity string `xml:"severity"` // Azure Linux has it here
	} `xml:"metadata"`
	Criteria criteria `xml:"criteria"`
}

type criteria struct {
	Operator string     `xml:"operator,attr"`
	Groups   []criteria `xml:"criteria"`
	Tests    []struct {
		Comment string `xml:"comment,attr"`
	} `xml:"criterion"`
}

// ParseOVAL reads OVAL definitions of packages of SUSE and openSUSE
// (https://ftp.suse.com/pub/projects/security/oval/), Oracle Linux
// (https://linux.oracle.com/security/oval/) and Azure Linux, compressed or not.
// release names the ecosystem of definitions that do not say which release they
// are for. Packages are the binary ones. Definitions of class inventory and
// those without a CVE of their own are left out; what is "not affected" too.
func ParseOVAL(r io.Reader, release, source string, each func(record string, a vuln.Advisory) error, skip func(name string, err error)) error {
	return eachElement(r, "OVAL", "definition", func(dec *xml.Decoder, start xml.StartElement) error {
		var d definition
		if err := dec.DecodeElement(&d, &start); err != nil {
			return err
		}
		if d.Class != "vulnerability" && d.Class != "patch" {
			return nil
		}
		a, err := d.advisory(release, source)
		if err != nil {
			skip(clip(d.ID, maxID), err)
			return nil
		}
		if len(a.Affected) == 0 {
			return nil
		}
		return each(clip(d.ID, maxID), a)
	})
}

func (d *definition) advisory(release, source string) (vuln.Advisory, error) {
	a := vuln.Advisory{ID: d.name(), Source: source, Title: title(d.Meta.Title, ""), Published: dayOrTime(d.Meta.Advisory.Issued.Date)}
	if a.ID == "" || d.ID == "" || !printable(a.ID) || len(a.ID) > maxID || len(d.Meta.Advisory.CVEs) > maxAliases*10 {
		return a, errors.New("the definition has no usable id")
	}
	for _, word := range []string{d.Meta.Advisory.Severity, d.Meta.Severity} {
		if sev, ok := vuln.FromWord(word); ok && a.Severity == "" {
			a.Severity, a.SeveritySource = sev, source
		}
	}
	for _, cve := range d.Meta.Advisory.CVEs {
		if id := strings.TrimSpace(cve.ID); isCVE(id) && id != a.ID {
			a.Aliases = append(a.Aliases, id)
		}
		if _, vector, ok := strings.Cut(cve.CVSS, "/"); ok && a.CVSS == "" {
			rateByVector(&a, vector)
		}
	}
	for _, ref := range d.Meta.Refs {
		if a.URL == "" && strings.HasPrefix(ref.URL, "https://") && strings.Contains(ref.URL, a.ID) {
			a.URL = clip(ref.URL, 500)
		}
	}
	w := &criteriaWalk{release: release, seen: map[string]bool{}}
	if err := w.walk(d.Criteria, []string{}, 0); err != nil {
		return a, err
	}
	a.Affected = w.found
	return a, nil
}

// name of what a definition is about: a CVE or an erratum.
func (d *definition) name() string {
	for _, text := range []string{d.Meta.Title, firstRef(d)} {
		word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		word = strings.TrimRight(word, ":")
		if isCVE(word) || isErratum(word) {
			return word
		}
	}
	for _, ref := range d.Meta.Refs {
		if isCVE(ref.ID) {
			return ref.ID
		}
	}
	return ""
}

func firstRef(d *definition) string {
	if len(d.Meta.Refs) == 0 {
		return ""
	}
	return d.Meta.Refs[0].ID
}

// criteriaWalk collects what criteria say: under "PRODUCT is installed", each
// "PACKAGE is earlier than EVR", "PACKAGE-VERSION-RELEASE is installed" (SUSE's
// word for the same) and "PACKAGE is affected".
type criteriaWalk struct {
	release string
	seen    map[string]bool
	found   []vuln.Affected
}

const maxCriteriaDepth = 20

func (w *criteriaWalk) walk(c criteria, products []string, depth int) error {
	if depth > maxCriteriaDepth {
		return errors.New("the criteria are nested too deeply")
	}
	// Products of this group hold for what stands beside and below them.
	// SUSE's generator puts alternatives into an OR group of their own.
	products = slices.Clone(products)
	for _, t := range c.Tests {
		if p := w.product(t.Comment); p != "" {
			products = append(products, p)
		}
	}
	for _, g := range c.Groups {
		if c.Operator != "OR" && onlyProducts(w, g) {
			for _, t := range g.Tests {
				products = append(products, w.product(t.Comment))
			}
		}
	}
	for _, t := range c.Tests {
		if x, ok := packageTest(t.Comment); ok {
			w.add(x, products)
		}
	}
	if len(w.found) > maxAffected {
		return errors.New("the criteria name too many packages")
	}
	for _, g := range c.Groups {
		if err := w.walk(g, products, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func onlyProducts(w *criteriaWalk, c criteria) bool {
	for _, t := range c.Tests {
		if w.product(t.Comment) == "" {
			return false
		}
	}
	return len(c.Groups) == 0 && len(c.Tests) > 0
}

// product gives the ecosystem that "PRODUCT is installed" means, else "".
func (w *criteriaWalk) product(comment string) string {
	name, ok := strings.CutSuffix(comment, " is installed")
	if !ok {
		return ""
	}
	for _, family := range []struct{ prefix, ecosystem string }{
		{"SUSE Linux Enterprise ", "SUSE:Linux Enterprise "}, {"SUSE Linux Micro ", "SUSE:Micro "}, {"openSUSE ", "openSUSE:"},
		{"Oracle Linux ", "Oracle Linux:"}, {"Azure Linux ", "Azure Linux:"},
	} {
		if rest, ok := strings.CutPrefix(name, family.prefix); ok {
			return vuln.Canonical(family.ecosystem + rest)
		}
	}
	return ""
}

// packageTest reads what a criterion says of a package.
func packageTest(comment string) (vuln.Affected, bool) {
	if name, rest, ok := strings.Cut(comment, " is earlier than "); ok {
		version, _, _ := strings.Cut(rest, " ")
		version = strings.TrimRight(version, ",")
		if version == "" || version == "0" {
			return vuln.Affected{}, false
		}
		return vuln.Affected{Name: strings.TrimPrefix(name, "Package "), Ranges: below(version)}, true
	}
	if name, ok := strings.CutSuffix(comment, " is affected"); ok {
		return vuln.Affected{Name: name, State: event.FixAffected, Ranges: []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}}}}}, true
	}
	nvr, ok := strings.CutSuffix(comment, " is installed")
	if !ok || strings.Contains(nvr, " ") {
		return vuln.Affected{}, false
	}
	i := strings.LastIndexByte(nvr, '-')
	j := strings.LastIndexByte(nvr[:max(i, 0)], '-')
	if j <= 0 || i == len(nvr)-1 {
		return vuln.Affected{}, false
	}
	return vuln.Affected{Name: nvr[:j], Ranges: below("0:" + nvr[j+1:])}, true
}

func (w *criteriaWalk) add(x vuln.Affected, products []string) {
	if x.Name == "" || len(x.Name) > maxID || !printable(x.Name) || isDebug(x.Name) {
		return
	}
	if len(products) == 0 {
		products = []string{w.release}
	}
	fixed := ""
	if events := x.Ranges[0].Events; len(events) > 1 {
		fixed = events[1].Fixed
	}
	for _, p := range products {
		key := p + "\n" + x.Name + "\n" + fixed
		if p == "" || w.seen[key] {
			continue
		}
		w.seen[key] = true
		x.Ecosystem = p
		w.found = append(w.found, x)
	}
}

// rateByVector keeps a vector, and its severity when the publisher gave no word.
func rateByVector(a *vuln.Advisory, vector string) {
	sev, source, ok := vuln.FromCVSS(vector)
	if !ok {
		return
	}
	a.CVSS = vector
	if a.Severity == "" {
		a.Severity, a.SeveritySource = sev, source
	}
}
