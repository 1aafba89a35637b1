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
	}
	c.components(doc.Components, 0)
	return nil
}

func (c *collector) components(all []cycloneComponent, depth int) {
	for i := range all {
		p := &all[i]
		switch {
		case p.Type == "operating-system":
			c.distro(p.Name, p.Version)
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
	i.source = p.property("aquasecurity:trivy:SrcName")
	i.sourceVersion = p.property("aquasecurity:trivy:SrcVersion")
	if release := p.property("aquasecurity:trivy:SrcRelease"); release != "" {
		i.sourceVersion += "-" + release
	}
	i.path = strings.TrimPrefix(p.property("aquasecurity:trivy:FilePath", "syft:location:0:path"), "/")
	i.layer = p.property("aquasecurity:trivy:LayerDiffID", "syft:location:0:layerID")
	return i
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

// spdx reads SPDX 2.x (spdx-spec 2.3, JSON).
func (c *collector) spdx(data []byte) error {
	var doc struct {
		Packages []struct {
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
		} `json:"packages"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("SPDX: %w", err)
	}
	for _, p := range doc.Packages {
		i := item{name: p.Name, licenses: []string{p.Declared}}
		if p.Declared == "" || p.Declared == "NOASSERTION" {
			i.licenses = []string{p.Concluded}
		}
		for _, r := range p.Refs {
			if r.Type == "purl" && i.purl == "" {
				i.purl = r.Locator
			}
		}
		switch {
		case p.Purpose == "OPERATING-SYSTEM":
			c.distro(p.Name, p.Version)
		case p.Purpose == "CONTAINER" || strings.HasPrefix(i.purl, "pkg:oci/"):
			c.Image.References = []string{p.Name}
		case i.purl == "" && p.Purpose == "APPLICATION":
			// a lock file as a heading
		default:
			c.add(i)
		}
	}
	return nil
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
