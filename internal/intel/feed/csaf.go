package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// csafDocument holds the fields of CSAF 2.0
// (https://docs.oasis-open.org/csaf/csaf/v2.0/) that are used.
type csafDocument struct {
	Document struct {
		Category string `json:"category"`
		Title    string `json:"title"`
		Severity struct {
			Text string `json:"text"`
		} `json:"aggregate_severity"`
		Tracking struct {
			ID      string `json:"id"`
			Initial string `json:"initial_release_date"`
			Current string `json:"current_release_date"`
		} `json:"tracking"`
	} `json:"document"`
	Tree struct {
		Branches      []csafBranch `json:"branches"`
		Relationships []struct {
			Package string      `json:"product_reference"`
			Product string      `json:"relates_to_product_reference"`
			Full    csafProduct `json:"full_product_name"`
		} `json:"relationships"`
	} `json:"product_tree"`
	Vulnerabilities []struct {
		CVE    string `json:"cve"`
		Title  string `json:"title"`
		Scores []struct {
			V3 csafScore `json:"cvss_v3"`
			V2 csafScore `json:"cvss_v2"`
		} `json:"scores"`
		Status struct {
			Fixed         []string `json:"fixed"`
			Affected      []string `json:"known_affected"`
			Investigation []string `json:"under_investigation"`
		} `json:"product_status"`
		Remediations []struct {
			Category string   `json:"category"`
			Details  string   `json:"details"`
			Products []string `json:"product_ids"`
		} `json:"remediations"`
	} `json:"vulnerabilities"`
}

type csafScore struct {
	Vector string `json:"vectorString"`
}

type csafProduct struct {
	ID     string `json:"product_id"`
	Helper struct {
		CPE  string `json:"cpe"`
		PURL string `json:"purl"`
	} `json:"product_identification_helper"`
}

type csafBranch struct {
	Branches []csafBranch `json:"branches"`
	Product  *csafProduct `json:"product"`
}

const (
	maxBranchDepth = 30
	maxProducts    = 500_000
)

// ParseCSAF reads one VEX document of Red Hat
// (https://security.access.redhat.com/data/csaf/v2/vex/): one CVE, what of
// Red Hat Enterprise Linux it affects, in the ecosystems "Red Hat:9". Other
// products, and extended update streams, are left out; so is what is not
// affected. Fixed are binary packages with their versions; unfixed are source
// packages ("components"), with what Red Hat decided about them.
func ParseCSAF(data []byte) (vuln.Advisory, error) {
	var doc csafDocument
	if len(data) > MaxRecord {
		return vuln.Advisory{}, fmt.Errorf("the document is larger than %d bytes", MaxRecord)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return vuln.Advisory{}, fmt.Errorf("not a CSAF document: %w", err)
	}
	if doc.Document.Category != "csaf_vex" || len(doc.Vulnerabilities) != 1 {
		return vuln.Advisory{}, errors.New("not a VEX document about one vulnerability")
	}
	v := &doc.Vulnerabilities[0]
	if !isCVE(v.CVE) {
		return vuln.Advisory{}, errors.New("the document names no CVE")
	}
	tree, err := doc.products()
	if err != nil {
		return vuln.Advisory{}, fmt.Errorf("%s: %w", v.CVE, err)
	}
	a := vuln.Advisory{ID: v.CVE, Source: "redhat", Title: title(v.Title, strings.TrimPrefix(doc.Document.Title, v.CVE+" ")),
		URL:       "https://access.redhat.com/security/cve/" + v.CVE,
		Published: dayOrTime(doc.Document.Tracking.Initial), Modified: dayOrTime(doc.Document.Tracking.Current)}
	if sev, ok := vuln.FromWord(doc.Document.Severity.Text); ok {
		a.Severity, a.SeveritySource = sev, "redhat"
	}
	for _, s := range v.Scores {
		for _, vector := range []string{s.V3.Vector, s.V2.Vector} {
			if a.CVSS == "" && vector != "" {
				rateByVector(&a, vector)
			}
		}
	}
	states := map[string]event.FixState{}
	for _, r := range v.Remediations {
		if state := remediation(r.Category, r.Details); state != "" {
			for _, id := range r.Products {
				states[id] = state
			}
		}
	}
	c := &csafCollection{tree: tree, seen: map[string]bool{}}
	for _, id := range v.Status.Fixed {
		c.fixed(id)
	}
	for _, id := range v.Status.Affected {
		c.unfixed(id, orState(states[id], event.FixAffected))
	}
	for _, id := range v.Status.Investigation {
		c.unfixed(id, event.FixInvestigating)
	}
	if len(c.found) > maxAffected*10 {
		return a, fmt.Errorf("%s: too many packages", v.CVE)
	}
	a.Affected = c.found
	return a, nil
}

func orState(a, b event.FixState) event.FixState {
	if a != "" {
		return a
	}
	return b
}

// remediation gives Red Hat's decision in our words.
func remediation(category, details string) event.FixState {
	switch category {
	case "no_fix_planned":
		if strings.Contains(details, "Out of support") {
			return event.FixEndOfLife
		}
		return event.FixWontFix
	case "none_available":
		if strings.Contains(details, "deferred") {
			return event.FixDeferred
		}
		return event.FixAffected
	}
	return ""
}

// csafPackage is what a product id means: a package of a release.
type csafPackage struct {
	ecosystem             string
	name, version, module string
	arch                  string
}

// products resolves every id of the tree that means a package of a release.
func (d *csafDocument) products() (map[string]csafPackage, error) {
	plain := map[string]*csafProduct{}
	if err := collect(d.Tree.Branches, plain, 0); err != nil {
		return nil, err
	}
	if len(d.Tree.Relationships) > maxProducts {
		return nil, errors.New("too many products")
	}
	out := map[string]csafPackage{}
	modules := map[string]string{} // id of "module in release" → module
	for range 2 {                  // a package in a module in a release needs the module first
		for _, r := range d.Tree.Relationships {
			release, module := "", ""
			if p, ok := plain[r.Product]; ok {
				release = rhelOf(p.Helper.CPE)
			} else if in, ok := out[r.Product]; ok {
				release, module = in.ecosystem, modules[r.Product]
			}
			p, ok := plain[r.Package]
			if release == "" || !ok {
				continue
			}
			pkg, isModule := packageOf(p, r.Package)
			if pkg.name == "" {
				continue
			}
			if isModule {
				modules[r.Full.ID] = pkg.name
			}
			pkg.ecosystem = release
			if pkg.module == "" {
				pkg.module = module
			}
			out[r.Full.ID] = pkg
		}
	}
	for id := range modules { // a module itself is no package
		delete(out, id)
	}
	return out, nil
}

func collect(branches []csafBranch, into map[string]*csafProduct, depth int) error {
	if depth > maxBranchDepth {
		return errors.New("the product tree is nested too deeply")
	}
	for i := range branches {
		if p := branches[i].Product; p != nil {
			if into[p.ID] = p; len(into) > maxProducts {
				return errors.New("too many products")
			}
		}
		if err := collect(branches[i].Branches, into, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// rhelOf gives "Red Hat:9" for the CPE of a main stream of Red Hat Enterprise
// Linux: cpe:/o:redhat:enterprise_linux:9, cpe:/a:redhat:enterprise_linux:9::appstream.
func rhelOf(cpe string) string {
	parts := strings.Split(cpe, ":")
	if len(parts) < 5 || parts[2] != "redhat" || parts[3] != "enterprise_linux" {
		return ""
	}
	major, _, _ := strings.Cut(parts[4], ".")
	if major == "" || strings.Trim(major, "0123456789") != "" {
		return ""
	}
	return "Red Hat:" + major
}

// packageOf reads a package URL, or the id of a component that has none.
func packageOf(p *csafProduct, id string) (pkg csafPackage, isModule bool) {
	purl := p.Helper.PURL
	if purl == "" {
		module, _, nested := strings.Cut(id, "/") // nodejs:18/nodejs, but no container images
		if len(id) > maxID || !printable(id) || strings.Contains(id, "@") || nested && !strings.Contains(module, ":") {
			return csafPackage{}, false
		}
		return csafPackage{name: id}, false
	}
	rest, ok := strings.CutPrefix(purl, "pkg:rpm/redhat/")
	if !ok {
		if rest, ok = strings.CutPrefix(purl, "pkg:rpmmod/redhat/"); !ok {
			return csafPackage{}, false
		}
		isModule = true
	}
	rest, query, _ := strings.Cut(rest, "?")
	name, version, _ := strings.Cut(rest, "@")
	name, err1 := url.PathUnescape(name)
	version, err2 := url.PathUnescape(version)
	qualifiers, err3 := url.ParseQuery(query)
	if errors.Join(err1, err2, err3) != nil || len(name) > maxID || len(version) > maxID || !printable(name+version) {
		return csafPackage{}, false
	}
	pkg = csafPackage{name: name, arch: qualifiers.Get("arch")}
	if version != "" {
		pkg.version = evr(qualifiers.Get("epoch"), version, "")
	}
	if module := qualifiers.Get("rpmmod"); module != "" {
		pkg.module = moduleStream(module)
	}
	if isModule {
		pkg.name = moduleStream(name + ":" + version)
	}
	return pkg, isModule
}

// moduleStream keeps name:stream of name:stream:version:context.
func moduleStream(s string) string {
	parts := strings.SplitN(s, ":", 3)
	return strings.Join(parts[:min(2, len(parts))], ":")
}

type csafCollection struct {
	tree  map[string]csafPackage
	seen  map[string]bool
	found []vuln.Affected
}

func (c *csafCollection) fixed(id string) {
	p, ok := c.tree[id]
	if !ok || p.version == "" || p.arch == "src" || isDebug(p.name) {
		return // the sources' version is that of their packages
	}
	c.add(p, vuln.Affected{Ranges: below(p.version), Module: p.module})
}

func (c *csafCollection) unfixed(id string, state event.FixState) {
	p, ok := c.tree[id]
	if !ok {
		return
	}
	name := p.name
	if module, inner, ok := strings.Cut(name, "/"); ok { // component "nodejs:18/nodejs"
		name, p.module = inner, module
	}
	p.name = name
	c.add(p, vuln.Affected{State: state, Module: p.module, Ranges: []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}}}}})
}

func (c *csafCollection) add(p csafPackage, a vuln.Affected) {
	fixed := ""
	if events := a.Ranges[0].Events; len(events) > 1 {
		fixed = events[1].Fixed
	}
	key := strings.Join([]string{p.ecosystem, p.name, a.Module, fixed, string(a.State)}, "\n")
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	a.Ecosystem, a.Name = p.ecosystem, p.name
	c.found = append(c.found, a)
}
