// Package sbom reads the packages of a software bill of materials, in JSON:
// CycloneDX 1.2 to 1.6, SPDX 2.2, 2.3 and 3.0, and Syft's own format. Packages are
// known by their package URL; what has none, or one of a kind that nobody has
// advisories for, is counted as a gap. What Breakwater's own documents say beyond
// that (layers, evidence) comes back as it was.
package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Bounds of one document.
const (
	MaxSize     = 128 << 20 // bytes
	maxPackages = 200_000
	maxDepth    = 16 // components in components
	maxLicenses = 20 // of one package
)

// Document is what a bill of materials says.
type Document struct {
	Format   string           `json:"format"` // for people: CycloneDX 1.6
	Distro   inventory.Distro `json:"distro"`
	Image    event.Image      `json:"image"`
	Packages []event.Package  `json:"packages"`
	Gaps     []string         `json:"gaps,omitempty"`
}

// Placer gives packages of a distribution what depends on it: see
// inventory.Engine.Place.
type Placer interface {
	Place(driver string, p *event.Package, d inventory.Distro) bool
}

// Parse reads a document of any of the formats.
func Parse(data []byte, place Placer) (*Document, error) {
	var probe struct {
		BOMFormat   string          `json:"bomFormat"`
		SpecVersion string          `json:"specVersion"`
		SPDXVersion string          `json:"spdxVersion"`
		Artifacts   json.RawMessage `json:"artifacts"`
		Graph       json.RawMessage `json:"@graph"`
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("is larger than %d bytes", MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	c := collector{Document: Document{}}
	var err error
	switch {
	case strings.EqualFold(probe.BOMFormat, "CycloneDX"):
		c.Format = "CycloneDX " + probe.SpecVersion
		err = c.cycloneDX(data)
	case probe.SPDXVersion != "":
		c.Format = probe.SPDXVersion
		err = c.spdx(data)
	case probe.Graph != nil:
		err = c.spdx3(probe.Graph)
	case probe.Artifacts != nil:
		c.Format = "Syft JSON"
		err = c.syft(data)
	default:
		return nil, errors.New("is neither CycloneDX, SPDX nor Syft JSON")
	}
	if err != nil {
		return nil, err
	}
	return c.finish(place), nil
}

// collector gathers packages before the distribution is known.
type collector struct {
	Document
	pending []pending
	layers  []string // of the image, by diff id, where the document says so
	foreign int      // components without a usable package URL
	first   string   // of those
	tooMany int
}

// pending is a package whose distribution is not known yet.
type pending struct {
	event.Package
	driver string // of a distribution's package
}

// item is a package as any of the formats states it.
type item struct {
	name, purl, source, sourceVersion, path, layer string
	module, step, owner, ecosystem                 string
	locked                                         bool
	licenses                                       []string
}

func (c *collector) add(i item) {
	if len(c.pending) == maxPackages {
		c.tooMany++
		return
	}
	u, err := packageurl.FromString(i.purl)
	if i.purl == "" || err != nil {
		c.miss(i.name)
		return
	}
	p, ok := c.packageOf(u, i)
	if !ok {
		c.miss(i.name)
		return
	}
	p.Path, p.Layer, p.LayerIndex = i.path, i.layer, max(slices.Index(c.layers, i.layer), 0)
	p.Module, p.Step, p.Owner, p.Locked = i.module, i.step, i.owner, i.locked
	if p.Source == "" && i.source != p.Name {
		p.Source, p.SourceVersion = i.source, i.sourceVersion
	}
	for _, l := range i.licenses {
		if l != "" && l != "NOASSERTION" && l != "NONE" && len(p.Licenses) < maxLicenses {
			p.Licenses = append(p.Licenses, l)
		}
	}
	c.pending = append(c.pending, p)
}

func (c *collector) miss(name string) {
	if c.foreign++; c.foreign == 1 {
		c.first = name
	}
}

// distributions maps package URL types to the driver that knows the ecosystem.
func distributions(kind string) string {
	switch kind {
	case packageurl.TypeDebian:
		return "dpkg.Driver"
	case packageurl.TypeApk:
		return "apk.Driver"
	case packageurl.TypeRPM:
		return "rpm.Driver"
	}
	return ""
}

func (c *collector) packageOf(u packageurl.PackageURL, i item) (pending, bool) {
	q := u.Qualifiers.Map()
	if driver := distributions(u.Type); driver != "" {
		p := event.Package{Name: u.Name, Version: u.Version, Arch: q["arch"], PURL: u.ToString(), Ecosystem: u.Namespace}
		if epoch := q["epoch"]; epoch != "" && epoch != "0" && !strings.Contains(p.Version, ":") {
			p.Version = epoch + ":" + p.Version
		}
		if name, version, _ := strings.Cut(q["upstream"], "@"); name != "" && name != p.Name {
			p.Source, p.SourceVersion = strings.TrimSuffix(name, ".src.rpm"), version
			if u.Type == packageurl.TypeRPM {
				p.Source = sourceRPM(name)
			}
		}
		if c.Distro.ID == "" {
			c.distro(u.Namespace, strings.TrimPrefix(q["distro"], u.Namespace+"-"))
		}
		return pending{p, driver}, purl.Valid(p.Name) && purl.Valid(p.Version)
	}
	p := language(u, q)
	if u.Type == packageurl.TypeGeneric {
		p = program(u, i)
	}
	return pending{p, ""}, p.Name != ""
}

// sourceRPM is the name in name-version-release.src.rpm.
func sourceRPM(file string) string {
	parts := strings.Split(strings.TrimSuffix(file, ".src.rpm"), "-")
	if len(parts) < 3 {
		return file
	}
	return strings.Join(parts[:len(parts)-2], "-")
}

// language makes the canonical package of what a package URL names.
func language(u packageurl.PackageURL, q map[string]string) event.Package {
	full := u.Name
	if u.Namespace != "" {
		full = u.Namespace + "/" + u.Name
	}
	switch u.Type {
	case packageurl.TypeNPM:
		return purl.NPM(full, u.Version)
	case packageurl.TypePyPi:
		return purl.PyPI(u.Name, u.Version)
	case packageurl.TypeMaven:
		return purl.Maven(u.Namespace, u.Name, u.Version)
	case packageurl.TypeGem:
		return purl.Gem(u.Name, u.Version, q["platform"])
	case packageurl.TypeComposer:
		return purl.Composer(full, u.Version)
	case packageurl.TypeCargo:
		return purl.Cargo(u.Name, u.Version)
	case packageurl.TypeGolang:
		if full == "stdlib" {
			return purl.Go(full, strings.TrimPrefix(strings.TrimPrefix(u.Version, "go"), "v"))
		}
		return purl.Go(full, u.Version)
	case packageurl.TypeNuget:
		return purl.NuGet(u.Name, u.Version)
	case packageurl.TypePub:
		return purl.Pub(u.Name, u.Version)
	case packageurl.TypeHex:
		return purl.Hex(u.Name, u.Version)
	case packageurl.TypeSwift:
		return purl.Swift(full, u.Version)
	case packageurl.TypeConan:
		return purl.Conan(u.Name, u.Version, q["user"], q["channel"])
	case packageurl.TypeHackage:
		return purl.Hackage(u.Name, u.Version)
	case packageurl.TypeCran:
		return purl.CRAN(u.Name, u.Version)
	case packageurl.TypeConda:
		return purl.Conda(u.Name, u.Version, q["build"], q["subdir"])
	case packageurl.TypeBitnami:
		return purl.Bitnami(u.Name, u.Version, q["arch"])
	case packageurl.TypeJulia:
		return purl.Julia(u.Name, u.Version, q["uuid"])
	case packageurl.TypeCocoapods:
		return purl.CocoaPods(u.Name, u.Version)
	case packageurl.TypeCpan:
		return purl.CPAN(u.Namespace, u.Name, u.Version)
	case "luarocks":
		return purl.LuaRocks(u.Name, u.Version)
	case packageurl.TypeWORDPRESS:
		return purl.WordPress(u.Namespace, u.Name, u.Version)
	}
	return event.Package{}
}

// program is a program that no package manager brought. Only a document of this
// program says whose advisories are about it, and under which name.
func program(u packageurl.PackageURL, i item) event.Package {
	if i.ecosystem == "Bitnami" && i.name != "" {
		return purl.Program(i.ecosystem, i.name, u.Name, u.Version)
	}
	return purl.Program("generic", u.Name, u.Name, u.Version)
}

// distro takes a distribution's id and version; Debian's advisories know major
// versions only.
func (c *collector) distro(id, version string) {
	id = strings.ToLower(id)
	if !purl.Valid(id) || version != "" && !purl.Valid(version) {
		return
	}
	if id == "debian" {
		version, _, _ = strings.Cut(version, ".")
	}
	c.Distro.ID, c.Distro.Version = id, version
}

func (c *collector) finish(place Placer) *Document {
	for _, p := range c.pending {
		if p.driver != "" {
			original := p.PURL
			if !place.Place(p.driver, &p.Package, c.Distro) {
				p.PURL = original
			}
		}
		c.Packages = append(c.Packages, p.Package)
	}
	if c.foreign > 0 {
		c.Gaps = append(c.Gaps, fmt.Sprintf("%d components of the document were not judged: they have no package URL of a known kind (the first: %q)", c.foreign, c.first))
	}
	if c.tooMany > 0 {
		c.Gaps = append(c.Gaps, fmt.Sprintf("the document holds %d packages more than the %d that are read", c.tooMany, maxPackages))
	}
	return &c.Document
}
