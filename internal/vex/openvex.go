package vex

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// openVEXDocument is OpenVEX 0.2
// (https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md).
type openVEXDocument struct {
	Context    string             `json:"@context"`
	ID         string             `json:"@id"`
	Author     string             `json:"author"`
	Timestamp  string             `json:"timestamp"`
	Updated    string             `json:"last_updated,omitempty"`
	Version    int                `json:"version"`
	Tooling    string             `json:"tooling,omitempty"`
	Statements []openVEXStatement `json:"statements"`
}

type openVEXStatement struct {
	Vulnerability openVEXVulnerability `json:"vulnerability"`
	Timestamp     string               `json:"timestamp,omitempty"`
	Updated       string               `json:"last_updated,omitempty"`
	Products      []openVEXProduct     `json:"products"`
	Status        string               `json:"status"`
	Justification string               `json:"justification,omitempty"`
	Impact        string               `json:"impact_statement,omitempty"`
	Action        string               `json:"action_statement,omitempty"`
}

// openVEXVulnerability is an object; version 0.0 had a string.
type openVEXVulnerability struct {
	ID      string   `json:"@id,omitempty"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
}

func (v *openVEXVulnerability) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &v.Name)
	}
	type plain openVEXVulnerability
	return json.Unmarshal(data, (*plain)(v))
}

type openVEXProduct struct {
	ID            string            `json:"@id,omitempty"`
	Identifiers   map[string]string `json:"identifiers,omitempty"`
	Hashes        map[string]string `json:"hashes,omitempty"`
	Subcomponents []openVEXProduct  `json:"subcomponents,omitempty"`
}

func (p *openVEXProduct) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' { // version 0.0
		return json.Unmarshal(data, &p.ID)
	}
	type plain openVEXProduct
	return json.Unmarshal(data, (*plain)(p))
}

func (r *reading) openVEX(data []byte) error {
	var doc openVEXDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("not an OpenVEX document: %w", err)
	}
	for i := range doc.Statements {
		s := &doc.Statements[i]
		st := statement{ids: append([]string{s.Vulnerability.Name, lastPart(s.Vulnerability.ID)}, s.Vulnerability.Aliases...),
			time: newest(s.Updated, s.Timestamp, doc.Updated, doc.Timestamp)}
		st.Statement = event.Statement{Status: s.Status, Justification: s.Justification, Impact: s.Impact, Author: doc.Author, Document: first(doc.ID, r.name)}
		if gravity(s.Status) < 0 {
			r.skip(first(s.Vulnerability.Name, s.Vulnerability.ID), fmt.Sprintf("%.40q is no status", s.Status))
			continue
		}
		var products []product
		for j := range s.Products {
			products = append(products, s.Products[j].products()...)
		}
		if err := r.add(st, products); err != nil {
			return err
		}
	}
	return nil
}

// products are the ways in which the document names one product, times its
// subcomponents.
func (p *openVEXProduct) products() []product {
	names := p.names()
	if len(p.Subcomponents) == 0 {
		return names
	}
	var out []product
	for i := range p.Subcomponents {
		for _, sub := range p.Subcomponents[i].names() {
			for _, n := range names {
				if n.image != nil && sub.pkg != nil {
					out = append(out, product{image: n.image, pkg: sub.pkg})
				}
			}
		}
	}
	return out
}

func (p *openVEXProduct) names() (out []product) {
	for _, id := range []string{p.ID, p.Identifiers["purl"]} {
		if n, ok := parseProduct(id); ok {
			out = append(out, n)
		}
	}
	if h := p.Hashes["sha-256"]; len(h) == 64 {
		out = append(out, product{image: &imageName{digest: "sha256:" + strings.ToLower(h)}})
	}
	if len(out) > 1 && p.ID == p.Identifiers["purl"] {
		return append(out[:1], out[2:]...)
	}
	return out
}

// lastPart of an address: …/CVE-2024-1.
func lastPart(address string) string {
	return address[strings.LastIndexByte(address, '/')+1:]
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// newest of the times that are there: a statement's own before the document's.
func newest(times ...string) time.Time {
	for _, s := range times {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t
		}
	}
	return time.Time{}
}
