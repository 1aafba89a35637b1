package sbom

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// cycloneComponent is the part of a component that is read (CycloneDX 1.6,
// bom-1.6.schema.json).
type cycloneComponent struct {
	Type     string `json:"type"`
	Group    string `json:"group"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	PURL     string `json:"purl"`
	Licenses []struct {
		License struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"license"`
		Expression string `json:"expression"`
	} `json:"licenses"`
	Properties []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"properties"`
	Components []cycloneComponent `json:"components"`
}

func (c *collector) cycloneDX(data []byte) error {
	var doc struct {
		Metadata struct {
			Component cycloneComponent `json:"component"`
		} `json:"metadata"`
		Components []cycloneComponent `json:"components"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("CycloneDX: %w", err)
	}
	if top := &doc.Metadata.Component; top.Type == "container" {
		c.Image.References = []string{top.Name}
		if id := top.property("aquasecurity:trivy:ImageID"); id != "" {
			c.Image.Digest = id
		}
		c.own(top)
	}
	c.components(doc.Components, 0)
	return nil
}

// own reads what a document of Breakwater says of its image.
func (c *collector) own(top *cycloneComponent) {
	if id := top.property("breakwater:imageDigest"); id != "" {
		c.Image.Digest, c.Image.Platform = id, top.property("breakwater:platform")
	}
	if names := top.all("breakwater:reference"); len(names) > 0 {
		c.Image.References = names
	}
	c.layers = top.all("breakwater:layer")
}

func (c *collector) components(all []cycloneComponent, depth int) {
	for i := range all {
		p := &all[i]
		switch {
		case p.Type == "operating-system":
			c.distro(p.Name, p.Version)
			c.Distro.Codename, c.Distro.Name = p.property("breakwater:codename"), p.property("breakwater:name")
		case p.PURL == "" && (p.Type == "file" || p.Type == "application"):
			// a lock file or a program as a heading: its packages follow
		default:
			c.add(p.item())
		}
		if depth < maxDepth {
			c.components(p.Components, depth+1)
		}
	}
}

func (p *cycloneComponent) item() item {
	i := item{name: p.Name, purl: p.PURL}
	for _, l := range p.Licenses {
		i.licenses = append(i.licenses, l.Expression, l.License.ID)
		if l.License.ID == "" {
			i.licenses = append(i.licenses, l.License.Name)
		}
	}
	i.source = p.property("breakwater:source", "aquasecurity:trivy:SrcName")
	i.sourceVersion = p.property("breakwater:sourceVersion", "aquasecurity:trivy:SrcVersion")
	if release := p.property("aquasecurity:trivy:SrcRelease"); release != "" {
		i.sourceVersion += "-" + release
	}
	i.path = strings.TrimPrefix(p.property("breakwater:path", "aquasecurity:trivy:FilePath", "syft:location:0:path"), "/")
	i.layer = p.property("breakwater:layer", "aquasecurity:trivy:LayerDiffID", "syft:location:0:layerID")
	i.module, i.step, i.owner = p.property("breakwater:module"), p.property("breakwater:step"), p.property("breakwater:owner")
	i.ecosystem, i.locked = p.property("breakwater:ecosystem"), p.property("breakwater:locked") == "true"
	return i
}

// all is every value of one property.
func (p *cycloneComponent) all(name string) (values []string) {
	for _, q := range p.Properties {
		if q.Name == name {
			values = append(values, q.Value)
		}
	}
	return values
}

// property is the first of the named ones that is there.
func (p *cycloneComponent) property(names ...string) string {
	for _, name := range names {
		for _, q := range p.Properties {
			if q.Name == name {
				return q.Value
			}
		}
	}
	return ""
}

// spdxPackage is the part of a package that is read.
type spdxPackage struct {
	Name      string `json:"name"`
	Version   string `json:"versionInfo"`
	Declared  string `json:"licenseDeclared"`
	Concluded string `json:"licenseConcluded"`
	Purpose   string `json:"primaryPackagePurpose"`
	Source    string `json:"sourceInfo"`
	Refs      []struct {
		Type    string `json:"referenceType"`
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
	Annotations []struct {
		Comment string `json:"comment"`
	} `json:"annotations"`
}

// spdx reads SPDX 2.x (spdx-spec 2.3, JSON).
func (c *collector) spdx(data []byte) error {
	var doc struct {
		Packages []spdxPackage `json:"packages"`
		Licenses []struct {
			ID   string `json:"licenseId"`
			Name string `json:"name"`
		} `json:"hasExtractedLicensingInfos"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("SPDX: %w", err)
	}
	named := make(map[string]string, len(doc.Licenses))
	for _, l := range doc.Licenses {
		named[l.ID] = l.Name
	}
	for n := range doc.Packages {
		p := &doc.Packages[n]
		i := p.item()
		switch {
		case p.Purpose == "OPERATING-SYSTEM":
			c.distro(p.Name, p.Version)
		case p.Purpose == "CONTAINER" || strings.HasPrefix(i.purl, "pkg:oci/"):
			c.Image.References = []string{p.Name}
			c.layers = p.annotations("Layer")
		case i.purl == "" && p.Purpose == "APPLICATION":
			// a lock file as a heading
		default:
			if name := named[i.licenses[0]]; name != "" {
				i.licenses[0] = name
			}
			c.add(i)
		}
	}
	return nil
}

func (p *spdxPackage) item() item {
	i := item{name: p.Name, licenses: []string{p.Declared}}
	if p.Declared == "" || p.Declared == "NOASSERTION" {
		i.licenses[0] = p.Concluded
	}
	for _, r := range p.Refs {
		if r.Type == "purl" && i.purl == "" {
			i.purl = r.Locator
		}
	}
	// Trivy's words too.
	if source, ok := strings.CutPrefix(p.Source, builtFrom); ok {
		i.source, i.sourceVersion, _ = strings.Cut(source, " ")
	}
	for name, to := range map[string]*string{"Path": &i.path, "LayerDiffID": &i.layer, "Module": &i.module, "Owner": &i.owner, "Ecosystem": &i.ecosystem} {
		if values := p.annotations(name); len(values) > 0 {
			*to = values[0]
		}
	}
	i.locked = len(p.annotations("Locked")) > 0
	return i
}

// annotations is every value of the annotations "name: value".
func (p *spdxPackage) annotations(name string) (values []string) {
	for _, a := range p.Annotations {
		if value, ok := strings.CutPrefix(a.Comment, name+": "); ok {
			values = append(values, value)
		}
	}
	return values
}

// syft reads Syft's own format (its JSON schema, versions 7 to 16).
func (c *collector) syft(data []byte) error {
	var doc struct {
		Artifacts []struct {
			Name      string          `json:"name"`
			PURL      string          `json:"purl"`
			Licenses  json.RawMessage `json:"licenses"`
			Locations []struct {
				Path  string `json:"path"`
				Layer string `json:"layerID"`
			} `json:"locations"`
			Metadata struct {
				Source        string `json:"source"`
				SourceVersion string `json:"sourceVersion"`
				OriginPackage string `json:"originPackage"`
			} `json:"metadata"`
		} `json:"artifacts"`
		Distro struct {
			ID      string `json:"id"`
			Version string `json:"versionID"`
			Name    string `json:"prettyName"`
		} `json:"distro"`
		Source struct {
			Name     string `json:"name"`
			Metadata struct {
				ImageID string   `json:"imageID"`
				Tags    []string `json:"tags"`
			} `json:"metadata"`
		} `json:"source"`
	}
	// Some fields of metadata have another type for some kinds of packages: what
	// does not fit is left out, the rest is read.
	err := json.Unmarshal(data, &doc)
	var wrongType *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &wrongType) {
		return fmt.Errorf("as Syft JSON: %w", err)
	}
	c.distro(doc.Distro.ID, doc.Distro.Version)
	c.Distro.Name = doc.Distro.Name
	c.Image.Digest, c.Image.References = doc.Source.Metadata.ImageID, doc.Source.Metadata.Tags
	for _, a := range doc.Artifacts {
		i := item{name: a.Name, purl: a.PURL, licenses: syftLicenses(a.Licenses), source: a.Metadata.Source, sourceVersion: a.Metadata.SourceVersion}
		if i.source == "" {
			i.source = a.Metadata.OriginPackage
		}
		if len(a.Locations) > 0 {
			i.path, i.layer = strings.TrimPrefix(a.Locations[0].Path, "/"), a.Locations[0].Layer
		}
		c.add(i)
	}
	return nil
}

// syftLicenses reads both forms: texts, and objects since schema 9.
func syftLicenses(raw json.RawMessage) []string {
	var texts []string
	if json.Unmarshal(raw, &texts) == nil {
		return texts
	}
	var objects []struct {
		Value      string `json:"value"`
		Expression string `json:"spdxExpression"`
	}
	if json.Unmarshal(raw, &objects) != nil {
		return nil
	}
	for _, o := range objects {
		if o.Expression != "" {
			texts = append(texts, o.Expression)
		} else {
			texts = append(texts, o.Value)
		}
	}
	return texts
}
