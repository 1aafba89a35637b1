package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The part of SPDX 2.3 (spdx-spec, JSON) that an image needs.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
		Licenses      []spdxExtracted    `json:"hasExtractedLicensingInfos,omitempty"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
		Comment  string   `json:"comment,omitempty"`
	}
	spdxPackage struct {
		ID            string           `json:"SPDXID"`
		Name          string           `json:"name"`
		Version       string           `json:"versionInfo,omitempty"`
		Purpose       string           `json:"primaryPackagePurpose,omitempty"`
		Supplier      string           `json:"supplier"`
		Download      string           `json:"downloadLocation"`
		FilesAnalyzed bool             `json:"filesAnalyzed"`
		Concluded     string           `json:"licenseConcluded"`
		Declared      string           `json:"licenseDeclared"`
		Copyright     string           `json:"copyrightText"`
		SourceInfo    string           `json:"sourceInfo,omitempty"`
		Refs          []spdxRef        `json:"externalRefs,omitempty"`
		Annotations   []spdxAnnotation `json:"annotations,omitempty"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxAnnotation struct {
		Type      string `json:"annotationType"`
		Annotator string `json:"annotator"`
		Date      string `json:"annotationDate"`
		Comment   string `json:"comment"`
	}
	spdxRelationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
	spdxExtracted struct {
		ID   string `json:"licenseId"`
		Name string `json:"name"`
		Text string `json:"extractedText"`
	}
)

const (
	noAssertion = "NOASSERTION"
	// builtFrom begins the sourceInfo that names a source package.
	builtFrom = "built package from: "
)

// SPDX writes the packages as SPDX 2.3 in JSON. The layer and the evidence of a
// package are annotations, its source package is its sourceInfo; `breakwater
// scan sbom:FILE` reads them back. SPDX 2.3 has no place for findings.
func SPDX(w io.Writer, r *Report) error {
	name, version, _ := strings.Cut(r.Tool, " ")
	tool := cmp.Or(name, "breakwater")
	if version != "" {
		tool += "-" + version
	}
	s := &spdxBuilder{tool: "Tool: " + tool, time: timestamp(r.Time), refs: references(r.Packages)}
	if s.time == "" {
		s.time = "1970-01-01T00:00:00Z" // the format demands one
	}
	s.doc = spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: Printable(cmp.Or(r.name(), "image")),
		Namespace: "https://github.com/breakwater-sec/breakwater/spdx/" + r.identity("spdx"),
		Creation:  spdxCreation{Created: s.time, Creators: []string{s.tool}, Comment: Printable(strings.Join(r.Gaps, "; "))},
	}
	s.image(r)
	if r.Distro.ID != "" {
		os := s.plain("SPDXRef-OperatingSystem", r.Distro.ID, r.Distro.Version, "OPERATING-SYSTEM")
		s.contain(os)
	}
	for i := range r.Packages {
		s.contain(s.pkg(&r.Packages[i]))
	}
	slices.SortFunc(s.doc.Licenses, func(a, b spdxExtracted) int { return strings.Compare(a.ID, b.ID) })
	return indented(w, s.doc)
}

type spdxBuilder struct {
	doc        spdxDocument
	tool, time string
	refs       packageRefs
}

const spdxImage = "SPDXRef-Image"

func (s *spdxBuilder) plain(id, name, version, purpose string) spdxPackage {
	return spdxPackage{
		ID: id, Name: name, Version: version, Purpose: purpose, Supplier: noAssertion, Download: noAssertion,
		Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion,
	}
}

func (s *spdxBuilder) image(r *Report) {
	p := s.plain(spdxImage, Printable(cmp.Or(r.name(), "image")), r.Image.Digest, "CONTAINER")
	for _, l := range r.Layers {
		p.Annotations = append(p.Annotations, s.annotation("Layer", l.DiffID))
	}
	s.doc.Packages = append(s.doc.Packages, p)
	s.doc.Relationships = []spdxRelationship{{s.doc.ID, "DESCRIBES", p.ID}}
}

func (s *spdxBuilder) contain(p spdxPackage) {
	s.doc.Packages = append(s.doc.Packages, p)
	s.doc.Relationships = append(s.doc.Relationships, spdxRelationship{spdxImage, "CONTAINS", p.ID})
}

func (s *spdxBuilder) annotation(name, value string) spdxAnnotation {
	return spdxAnnotation{"OTHER", s.tool, s.time, name + ": " + value}
}

func (s *spdxBuilder) pkg(p *event.Package) spdxPackage {
	out := s.plain("SPDXRef-Package-"+fingerprint(s.refs.of(p), p.Path, p.Layer), p.Name, p.Version, "LIBRARY")
	out.Declared = s.declared(p.Licenses)
	if p.PURL != "" {
		out.Refs = []spdxRef{{"PACKAGE-MANAGER", "purl", p.PURL}}
	}
	if p.Source != "" {
		out.SourceInfo = strings.TrimSpace(builtFrom + p.Source + " " + p.SourceVersion)
	}
	locked := ""
	if p.Locked {
		locked = "true"
	}
	ecosystem := "" // of others the package URL says it
	if strings.HasPrefix(p.PURL, "pkg:generic/") {
		ecosystem = p.Ecosystem
	}
	pairs := []string{"Path", p.Path, "LayerDiffID", p.Layer, "Module", p.Module, "Locked", locked, "Owner", p.Owner, "Ecosystem", ecosystem}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out.Annotations = append(out.Annotations, s.annotation(pairs[i], pairs[i+1]))
		}
	}
	return out
}

// declared joins licences to one expression. What is not an SPDX expression
// becomes a LicenseRef, whose text is what the package says.
func (s *spdxBuilder) declared(licenses []string) string {
	var all []string
	for _, l := range licenses {
		switch {
		case l == "" || l == noAssertion || l == "NONE":
			continue
		case !spdxExpression(l):
			l = s.extracted(l)
		case len(licenses) > 1 && strings.Contains(l, " "):
			l = "(" + l + ")"
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return noAssertion
	}
	return strings.Join(all, " AND ")
}

func (s *spdxBuilder) extracted(text string) string {
	id := "LicenseRef-" + fingerprint(text)
	if !slices.ContainsFunc(s.doc.Licenses, func(e spdxExtracted) bool { return e.ID == id }) {
		s.doc.Licenses = append(s.doc.Licenses, spdxExtracted{id, Printable(text), fmt.Sprintf("The package says: %s", Printable(text))})
	}
	return id
}

// spdxExpression says whether every word of s is an operator, a parenthesis or
// an identifier of the list in spdxlicenses.go, in an order that an expression
// may have (SPDX 2.3, annex D).
func spdxExpression(s string) bool {
	s = strings.NewReplacer("(", " ( ", ")", " ) ").Replace(s)
	depth, operand := 0, true // operand: one is due
	words := strings.Fields(s)
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "(" && operand:
			depth++
		case w == ")" && !operand && depth > 0:
			depth--
		case (w == "AND" || w == "OR") && !operand:
			operand = true
		case w == "WITH" && !operand && i+1 < len(words) && isSPDXException(words[i+1]):
			i++
		case operand && isSPDXLicense(strings.TrimSuffix(w, "+")):
			operand = false
		default:
			return false
		}
	}
	return depth == 0 && !operand && len(words) > 0
}
