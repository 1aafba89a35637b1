package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// cdxDocument holds what is used of CycloneDX (https://cyclonedx.org/docs/1.6/json/).
type cdxDocument struct {
	Serial   string `json:"serialNumber"`
	Metadata struct {
		Timestamp string       `json:"timestamp"`
		Component cdxComponent `json:"component"`
		Authors   []struct {
			Name string `json:"name"`
		} `json:"authors"`
	} `json:"metadata"`
	Components      []cdxComponent `json:"components"`
	Vulnerabilities []struct {
		ID         string `json:"id"`
		Updated    string `json:"updated"`
		Published  string `json:"published"`
		References []struct {
			ID string `json:"id"`
		} `json:"references"`
		Analysis *struct {
			State         string `json:"state"`
			Justification string `json:"justification"`
			Detail        string `json:"detail"`
			Updated       string `json:"lastUpdated"`
		} `json:"analysis"`
		Affects []struct {
			Ref string `json:"ref"`
		} `json:"affects"`
	} `json:"vulnerabilities"`
}

type cdxComponent struct {
	Ref        string         `json:"bom-ref"`
	Type       string         `json:"type"`
	Name       string         `json:"name"`
	Version    string         `json:"version"`
	PURL       string         `json:"purl"`
	Components []cdxComponent `json:"components"`
}

// cdxStatus maps the states of an analysis; "" for what says nothing.
func cdxStatus(state string) string {
	switch state {
	case "not_affected", "false_positive":
		return NotAffected
	case "resolved", "resolved_with_pedigree":
		return Fixed
	case "exploitable":
		return Affected
	case "in_triage":
		return Investigating
	}
	return ""
}

func (r *reading) cycloneDX(data []byte) error {
	var doc cdxDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("not a CycloneDX document: %w", err)
	}
	image := doc.image()
	known := map[string]product{}
	if doc.Metadata.Component.Ref != "" && image != nil {
		known[doc.Metadata.Component.Ref] = product{image: image}
	}
	if err := components(doc.Components, image, known, 0); err != nil {
		return err
	}
	author := ""
	if len(doc.Metadata.Authors) > 0 {
		author = doc.Metadata.Authors[0].Name
	}
	for i := range doc.Vulnerabilities {
		v := &doc.Vulnerabilities[i]
		if v.Analysis == nil || cdxStatus(v.Analysis.State) == "" {
			continue // a finding, and no statement
		}
		st := statement{ids: []string{v.ID}, time: newest(v.Analysis.Updated, v.Updated, doc.Metadata.Timestamp)}
		for _, ref := range v.References {
			st.ids = append(st.ids, ref.ID)
		}
		st.Statement = event.Statement{Status: cdxStatus(v.Analysis.State), Justification: v.Analysis.Justification,
			Impact: v.Analysis.Detail, Author: author, Document: first(doc.Serial, r.name)}
		if st.Status == NotAffected && st.Justification == "" && v.Analysis.State == "false_positive" {
			st.Justification = "false_positive"
		}
		var products []product
		for _, a := range v.Affects {
			if p, ok := refer(a.Ref, known); ok {
				products = append(products, p)
			}
		}
		if err := r.add(st, products); err != nil {
			return err
		}
	}
	return nil
}

// image that the document describes; nil when it is about something else.
func (d *cdxDocument) image() *imageName {
	c := &d.Metadata.Component
	if p, ok := parseProduct(c.PURL); ok {
		return p.image
	}
	if c.Type != "container" || c.Name == "" {
		return nil
	}
	ref := c.Name
	switch {
	case strings.HasPrefix(c.Version, "sha256:"):
		ref += "@" + c.Version
	case c.Version != "" && !strings.Contains(lastPart(c.Name), ":"):
		ref += ":" + c.Version
	}
	n := parseReference(ref)
	return &n
}

func components(list []cdxComponent, image *imageName, known map[string]product, depth int) error {
	if depth > maxDepth {
		return errors.New("its components are nested too deep")
	}
	for i := range list {
		c := &list[i]
		if u := purlOf(c.PURL); u != nil && c.Ref != "" {
			known[c.Ref] = product{image: image, pkg: u}
		}
		if err := components(c.Components, image, known, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// refer resolves a reference: of this document, of another one
// (urn:cdx:SERIAL/VERSION#REF), or a package URL itself.
func refer(ref string, known map[string]product) (product, bool) {
	if p, ok := known[ref]; ok {
		return p, true
	}
	if rest, ok := strings.CutPrefix(ref, "urn:cdx:"); ok {
		_, ref, _ = strings.Cut(rest, "#")
		if p, ok := known[ref]; ok {
			return p, true
		}
	}
	return parseProduct(ref)
}
