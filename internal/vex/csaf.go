package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// csafDocument holds what is used of CSAF 2.0
// (https://docs.oasis-open.org/csaf/csaf/v2.0/), profile VEX.
type csafDocument struct {
	Document struct {
		Publisher struct {
			Name string `json:"name"`
		} `json:"publisher"`
		Tracking struct {
			ID      string `json:"id"`
			Current string `json:"current_release_date"`
		} `json:"tracking"`
	} `json:"document"`
	Tree struct {
		Branches      []csafBranch  `json:"branches"`
		Names         []csafProduct `json:"full_product_names"`
		Relationships []struct {
			Package string      `json:"product_reference"`
			In      string      `json:"relates_to_product_reference"`
			Full    csafProduct `json:"full_product_name"`
		} `json:"relationships"`
	} `json:"product_tree"`
	Vulnerabilities []csafVulnerability `json:"vulnerabilities"`
}

type csafVulnerability struct {
	CVE string `json:"cve"`
	IDs []struct {
		Text string `json:"text"`
	} `json:"ids"`
	Status map[string][]string `json:"product_status"`
	Flags  []struct {
		Label    string   `json:"label"`
		Products []string `json:"product_ids"`
	} `json:"flags"`
	Threats []struct {
		Category string   `json:"category"`
		Details  string   `json:"details"`
		Products []string `json:"product_ids"`
	} `json:"threats"`
}

type csafBranch struct {
	Branches []csafBranch `json:"branches"`
	Product  *csafProduct `json:"product"`
}

type csafProduct struct {
	ID     string `json:"product_id"`
	Helper struct {
		PURL   string `json:"purl"`
		Hashes []struct {
			Files []struct {
				Algorithm string `json:"algorithm"`
				Value     string `json:"value"`
			} `json:"file_hashes"`
		} `json:"hashes"`
	} `json:"product_identification_helper"`
}

const maxDepth = 30

func (r *reading) csaf(data []byte) error {
	var doc csafDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("not a CSAF document: %w", err)
	}
	known := map[string]product{}
	if err := collect(doc.Tree.Branches, known, 0); err != nil {
		return err
	}
	for i := range doc.Tree.Names {
		doc.Tree.Names[i].into(known)
	}
	for _, rel := range doc.Tree.Relationships {
		// "package as a component of product": the package, in the image if the
		// product is one. Other products (a distribution) only place the package.
		pkg, in := known[rel.Package], known[rel.In]
		if pkg.pkg != nil {
			known[rel.Full.ID] = product{image: in.image, pkg: pkg.pkg}
		}
	}
	for i := range doc.Vulnerabilities {
		if err := r.csafVulnerability(&doc, &doc.Vulnerabilities[i], known); err != nil {
			return err
		}
	}
	return nil
}

func collect(branches []csafBranch, known map[string]product, depth int) error {
	if depth > maxDepth {
		return errors.New("its product tree is too deep")
	}
	for i := range branches {
		if p := branches[i].Product; p != nil {
			p.into(known)
		}
		if err := collect(branches[i].Branches, known, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *csafProduct) into(known map[string]product) {
	if one, ok := parseProduct(p.Helper.PURL); ok {
		known[p.ID] = one
		return
	}
	for _, h := range p.Helper.Hashes {
		for _, f := range h.Files {
			if f.Algorithm == "sha256" && len(f.Value) == 64 {
				known[p.ID] = product{image: &imageName{digest: "sha256:" + f.Value}}
			}
		}
	}
}

// csafStatuses maps the lists of product_status, the graver last.
func csafStatuses() [][2]string {
	return [][2]string{
		{"known_not_affected", NotAffected}, {"fixed", Fixed}, {"first_fixed", Fixed},
		{"under_investigation", Investigating}, {"known_affected", Affected}, {"first_affected", Affected}, {"last_affected", Affected},
	}
}

func (r *reading) csafVulnerability(doc *csafDocument, v *csafVulnerability, known map[string]product) error {
	ids := []string{v.CVE}
	for _, id := range v.IDs {
		ids = append(ids, id.Text)
	}
	for _, status := range csafStatuses() {
		for _, id := range v.Status[status[0]] {
			st := statement{ids: slices.Clone(ids), time: newest(doc.Document.Tracking.Current)}
			st.Statement = event.Statement{Status: status[1], Author: doc.Document.Publisher.Name, Document: first(doc.Document.Tracking.ID, r.name)}
			for _, f := range v.Flags {
				if slices.Contains(f.Products, id) {
					st.Justification = f.Label
				}
			}
			for _, t := range v.Threats {
				if t.Category == "impact" && slices.Contains(t.Products, id) {
					st.Impact = t.Details
				}
			}
			var products []product
			if p, ok := known[id]; ok {
				products = []product{p}
			}
			if err := r.add(st, products); err != nil {
				return err
			}
		}
	}
	return nil
}

// purlOf is a package URL, nil for what is none or an image.
func purlOf(s string) *packageurl.PackageURL {
	p, ok := parseProduct(s)
	if !ok {
		return nil
	}
	return p.pkg
}
