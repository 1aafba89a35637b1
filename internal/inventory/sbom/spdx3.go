package sbom

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
)

// element is the part of an SPDX 3 element that is read, whatever its class
// (spdx-spec 3.0.1, JSON-LD with the context of that specification).
type element struct {
	Type    string `json:"type"`
	ID      string `json:"spdxId"`
	Name    string `json:"name"`
	Spec    string `json:"specVersion"`
	Version string `json:"software_packageVersion"`
	PURL    string `json:"software_packageUrl"`
	Purpose string `json:"software_primaryPurpose"`
	Source  string `json:"software_sourceInfo"`
	Refs    []struct {
		Type       string `json:"externalIdentifierType"`
		Identifier string `json:"identifier"`
	} `json:"externalIdentifier"`
	Relation   string   `json:"relationshipType"`
	From       string   `json:"from"`
	To         []string `json:"to"`
	Expression string   `json:"simplelicensing_licenseExpression"`
	Members    []string `json:"expandedlicensing_member"`
}

// spdx3 reads SPDX 3.0: packages, and their licences by relationships.
func (c *collector) spdx3(graph json.RawMessage) error {
	var elements []element
	if err := json.Unmarshal(graph, &elements); err != nil {
		return fmt.Errorf("SPDX 3: %w", err)
	}
	licenses := licensing{texts: map[string]*element{}, declared: map[string]string{}, concluded: map[string]string{}}
	version := ""
	for n := range elements {
		e := &elements[n]
		if e.Type == "CreationInfo" {
			version = e.Spec
		}
		licenses.take(e)
	}
	if version != "3.0" && !strings.HasPrefix(version, "3.0.") {
		return fmt.Errorf("is no SPDX 3.0: its CreationInfo states the version %.20q", version)
	}
	c.Format = "SPDX-" + version
	for n := range elements {
		if e := &elements[n]; e.Type == "software_Package" {
			c.package3(e, licenses.of(e.ID))
		}
	}
	return nil
}

func (c *collector) package3(e *element, license string) {
	i := item{name: e.Name, purl: e.PURL, licenses: []string{license}}
	for _, r := range e.Refs {
		if i.purl == "" && r.Type == "packageUrl" {
			i.purl = r.Identifier
		}
	}
	if source, ok := strings.CutPrefix(e.Source, builtFrom); ok {
		i.source, i.sourceVersion, _ = strings.Cut(source, " ")
	}
	switch {
	case e.Purpose == "operatingSystem":
		c.distro(e.Name, e.Version)
	case e.Purpose == "container" || strings.HasPrefix(i.purl, "pkg:oci/"):
		c.Image.References = []string{e.Name}
	case i.purl == "" && (e.Purpose == "application" || e.Purpose == "file"):
		// a lock file or a folder as a heading
	default:
		c.add(i)
	}
}

// builtFrom is how Trivy and this program name a source package.
const builtFrom = "built package from: "

// licensing holds who has which licence, by the elements' ids.
type licensing struct {
	texts               map[string]*element
	declared, concluded map[string]string
	left                int // elements that one expression may still take
}

func (l *licensing) take(e *element) {
	switch e.Type {
	case "simplelicensing_LicenseExpression", "expandedlicensing_ListedLicense", "expandedlicensing_CustomLicense",
		"expandedlicensing_ConjunctiveLicenseSet", "expandedlicensing_DisjunctiveLicenseSet":
		l.texts[e.ID] = e
	case "Relationship":
		if len(e.To) == 0 {
			return
		}
		switch e.Relation {
		case "hasDeclaredLicense":
			l.declared[e.From] = e.To[0]
		case "hasConcludedLicense":
			l.concluded[e.From] = e.To[0]
		}
	}
}

// of is the declared licence of an element, else the concluded one, as one
// expression; "" when the document asserts none.
func (l *licensing) of(id string) string {
	l.left = maxLicenses
	return cmp.Or(l.text(l.declared[id]), l.text(l.concluded[id]))
}

func (l *licensing) text(id string) string {
	e := l.texts[id]
	if l.left--; e == nil || l.left < 0 {
		return ""
	}
	join := " AND "
	switch e.Type {
	case "simplelicensing_LicenseExpression":
		return e.Expression
	case "expandedlicensing_DisjunctiveLicenseSet":
		join = " OR "
	case "expandedlicensing_ConjunctiveLicenseSet":
	default:
		return e.Name
	}
	var parts []string
	for _, member := range e.Members {
		part := l.text(member)
		if part == "" {
			return ""
		}
		if strings.Contains(part, " ") {
			part = "(" + part + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, join)
}
