package report

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The part of CycloneDX 1.6 (ECMA-424, bom-1.6.schema.json) that an image needs.
type (
	cdxDocument struct {
		Schema          string             `json:"$schema"`
		Format          string             `json:"bomFormat"`
		Version         string             `json:"specVersion"`
		Serial          string             `json:"serialNumber"`
		Revision        int                `json:"version"`
		Metadata        cdxMetadata        `json:"metadata"`
		Components      []cdxComponent     `json:"components"`
		Dependencies    []cdxDependency    `json:"dependencies"`
		Vulnerabilities []cdxVulnerability `json:"vulnerabilities,omitempty"`
	}
	cdxMetadata struct {
		Time  string `json:"timestamp"`
		Tools struct {
			Components []cdxComponent `json:"components"`
		} `json:"tools"`
		Component  cdxComponent  `json:"component"`
		Properties []cdxProperty `json:"properties,omitempty"`
	}
	cdxComponent struct {
		Ref        string        `json:"bom-ref,omitempty"`
		Type       string        `json:"type"`
		Name       string        `json:"name"`
		Version    string        `json:"version,omitempty"`
		Licenses   []cdxLicense  `json:"licenses,omitempty"`
		PURL       string        `json:"purl,omitempty"`
		Properties []cdxProperty `json:"properties,omitempty"`
	}
	cdxLicense struct {
		License struct {
			Name string `json:"name"`
		} `json:"license"`
	}
	cdxProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	cdxDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
	cdxVulnerability struct {
		Ref            string         `json:"bom-ref"`
		ID             string         `json:"id"`
		Source         *cdxSource     `json:"source,omitempty"`
		References     []cdxReference `json:"references,omitempty"`
		Ratings        []cdxRating    `json:"ratings,omitempty"`
		Description    string         `json:"description,omitempty"`
		Recommendation string         `json:"recommendation,omitempty"`
		Published      string         `json:"published,omitempty"`
		Analysis       *cdxAnalysis   `json:"analysis,omitempty"`
		Affects        []cdxAffects   `json:"affects"`
		Properties     []cdxProperty  `json:"properties,omitempty"`
	}
	cdxSource struct {
		Name string `json:"name,omitempty"`
		URL  string `json:"url,omitempty"`
	}
	cdxReference struct {
		ID     string    `json:"id"`
		Source cdxSource `json:"source"`
	}
	cdxRating struct {
		Source   *cdxSource `json:"source,omitempty"`
		Score    float64    `json:"score,omitempty"`
		Severity string     `json:"severity,omitempty"`
		Method   string     `json:"method,omitempty"`
		Vector   string     `json:"vector,omitempty"`
	}
	cdxAnalysis struct {
		State         string   `json:"state,omitempty"`
		Justification string   `json:"justification,omitempty"`
		Response      []string `json:"response,omitempty"`
		Detail        string   `json:"detail,omitempty"`
	}
	cdxAffects struct {
		Ref      string       `json:"ref"`
		Versions []cdxVersion `json:"versions,omitempty"`
	}
	cdxVersion struct {
		Version string `json:"version"`
		Status  string `json:"status"`
	}
)

// CycloneDX writes the packages, their findings and what VEX says of them as
// CycloneDX 1.6 in JSON. What it has no field for (the layer, the evidence, the
// source package) stands in properties named breakwater:…, which `breakwater
// scan sbom:FILE` reads back. Malware, secrets and misconfigurations have no
// place in the format.
func CycloneDX(w io.Writer, r *Report) error {
	refs := references(r.Packages)
	name, version, _ := strings.Cut(r.Tool, " ")
	doc := cdxDocument{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", Version: "1.6",
		Serial: "urn:uuid:" + r.identity("cyclonedx"), Revision: 1,
		Components: []cdxComponent{}, Dependencies: []cdxDependency{},
	}
	doc.Metadata.Time = r.Time.UTC().Format(time.RFC3339)
	doc.Metadata.Tools.Components = []cdxComponent{{Type: "application", Name: cmp.Or(name, "breakwater"), Version: version}}
	doc.Metadata.Component = r.cdxImage()
	doc.Metadata.Properties = cdxProperties("breakwater:intelligence", r.intelligence(), "breakwater:integrity", r.Integrity)
	for _, g := range r.Gaps {
		doc.Metadata.Properties = append(doc.Metadata.Properties, cdxProperty{"breakwater:gap", Printable(g)})
	}
	if r.Distro.ID != "" {
		doc.Components = append(doc.Components, cdxComponent{
			Ref: "os", Type: "operating-system", Name: r.Distro.ID, Version: r.Distro.Version,
			Properties: cdxProperties("breakwater:codename", r.Distro.Codename, "breakwater:name", r.Distro.Name, "breakwater:endOfLife", date(r.Distro.EndOfLife)),
		})
	}
	for i := range r.Packages {
		doc.Components = append(doc.Components, cdxPackage(&r.Packages[i], refs.of(&r.Packages[i])))
	}
	top := cdxDependency{Ref: doc.Metadata.Component.Ref}
	for _, c := range doc.Components {
		top.DependsOn = append(top.DependsOn, c.Ref)
	}
	doc.Dependencies = append(doc.Dependencies, top)
	doc.Vulnerabilities = cdxVulnerabilities(r, refs)
	return indented(w, doc)
}

func (r *Report) cdxImage() cdxComponent {
	c := cdxComponent{Ref: "image", Type: "container", Name: Printable(cmp.Or(r.name(), "image")), Version: r.Image.Digest}
	c.Properties = cdxProperties("breakwater:imageDigest", r.Image.Digest, "breakwater:platform", r.Image.Platform)
	for _, name := range r.Image.References {
		c.Properties = append(c.Properties, cdxProperty{"breakwater:reference", name})
	}
	for _, l := range r.Layers {
		c.Properties = append(c.Properties, cdxProperty{"breakwater:layer", l.DiffID})
	}
	return c
}

func cdxPackage(p *event.Package, ref string) cdxComponent {
	c := cdxComponent{Ref: ref, Type: "library", Name: p.Name, Version: p.Version, PURL: p.PURL}
	for _, name := range p.Licenses {
		var l cdxLicense
		l.License.Name = name
		c.Licenses = append(c.Licenses, l)
	}
	locked := ""
	if p.Locked {
		locked = "true"
	}
	c.Properties = cdxProperties(
		"breakwater:ecosystem", p.Ecosystem, "breakwater:source", p.Source, "breakwater:sourceVersion", p.SourceVersion,
		"breakwater:module", p.Module, "breakwater:path", p.Path, "breakwater:layer", p.Layer, "breakwater:step", p.Step,
		"breakwater:locked", locked, "breakwater:owner", p.Owner,
	)
	return c
}

// cdxProperties takes names and values in turn and leaves empty ones out.
func cdxProperties(pairs ...string) (out []cdxProperty) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, cdxProperty{pairs[i], pairs[i+1]})
		}
	}
	return out
}

// cdxVulnerabilities joins findings that differ by their package alone.
func cdxVulnerabilities(r *Report, refs packageRefs) []cdxVulnerability {
	var out []cdxVulnerability
	known := map[string]int{}
	add := func(f *event.Finding) {
		v := cdxFinding(f)
		ref := refs.of(&f.Package)
		affects := cdxAffects{ref, []cdxVersion{{f.Package.Version, "affected"}}}
		key, _ := json.Marshal(v) // of plain fields: cannot fail
		if i, ok := known[string(key)]; ok {
			out[i].Affects = append(out[i].Affects, affects)
			return
		}
		known[string(key)] = len(out)
		v.Affects = []cdxAffects{affects}
		out = append(out, v)
	}
	for _, list := range [][]event.Finding{byRank(r.Findings), byRank(r.Excluded)} {
		for i := range list {
			add(&list[i])
		}
	}
	for i := range out {
		out[i].Ref = fingerprint("vulnerability", out[i].ID, out[i].Affects[0].Ref)
	}
	return out
}

func cdxFinding(f *event.Finding) cdxVulnerability {
	v := cdxVulnerability{
		ID: Printable(f.ID), Source: &cdxSource{f.Source, webURL(f.URL)}, Description: Printable(f.Title), Analysis: cdxAnalysisOf(f),
		Published:  timestamp(f.Published),
		Properties: cdxProperties("breakwater:fixState", string(f.State), "breakwater:rank", Reason(f)),
	}
	if f.FixedVersion != "" {
		v.Recommendation = "Update " + Printable(f.Package.Name) + " to " + Printable(f.FixedVersion)
	}
	for _, alias := range f.Aliases {
		v.References = append(v.References, cdxReference{alias, cdxSource{Name: f.Source}})
	}
	v.Ratings = []cdxRating{{Source: cdxNamed(cmp.Or(f.SeveritySource, f.Source)), Severity: cdxSeverity(f.Severity), Method: cdxMethod(f.CVSS), Vector: f.CVSS}}
	for _, x := range f.Ratings {
		rating := cdxRating{cdxNamed(x.Source), x.Score, cdxSeverity(x.Severity), cdxMethod(x.Vector), x.Vector}
		if !slices.ContainsFunc(v.Ratings, func(y cdxRating) bool { return *y.Source == *rating.Source && y.Vector == rating.Vector }) {
			v.Ratings = append(v.Ratings, rating)
		}
	}
	return v
}

func cdxNamed(name string) *cdxSource { return &cdxSource{Name: name} }

func cdxSeverity(s event.Severity) string {
	switch s {
	case event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow:
		return string(s)
	case event.SeverityNegligible:
		return "info"
	case "":
		return ""
	}
	return "unknown"
}

func cdxMethod(vector string) string {
	switch {
	case strings.HasPrefix(vector, "CVSS:4"):
		return "CVSSv4"
	case strings.HasPrefix(vector, "CVSS:3.1"):
		return "CVSSv31"
	case strings.HasPrefix(vector, "CVSS:3"):
		return "CVSSv3"
	case strings.HasPrefix(vector, "AV:"):
		return "CVSSv2"
	case vector != "":
		return "other"
	}
	return ""
}

// cdxAnalysisOf says what VEX and the publisher say, in CycloneDX's words.
func cdxAnalysisOf(f *event.Finding) *cdxAnalysis {
	var a cdxAnalysis
	switch f.State {
	case event.FixFixed:
		a.Response = []string{"update"}
	case event.FixWontFix, event.FixEndOfLife:
		a.Response = []string{"will_not_fix"}
	}
	if s := f.VEX; s != nil {
		a.State = map[string]string{"not_affected": "not_affected", "affected": "exploitable", "fixed": "resolved", "under_investigation": "in_triage"}[s.Status]
		a.Justification = map[string]string{
			"component_not_present":               "code_not_present",
			"vulnerable_code_not_present":         "code_not_present",
			"vulnerable_code_not_in_execute_path": "code_not_reachable",
			"inline_mitigations_already_exist":    "protected_by_mitigating_control",
		}[s.Justification]
		a.Detail = Printable(joined(". ", s.Justification, s.Impact, s.Document))
	} else if f.State == event.FixInvestigating {
		a.State = "in_triage"
	}
	if a.State == "" && a.Response == nil && a.Detail == "" {
		return nil
	}
	return &a
}
