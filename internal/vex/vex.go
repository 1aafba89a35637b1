// Package vex reads statements about whether a vulnerability counts in a
// product (OpenVEX 0.2, CSAF 2.0 VEX, CycloneDX 1.4 and later), applies them to
// the findings of an image, and writes OpenVEX. Documents are untrusted in form:
// everything is bounded. In what they say they are trusted, for somebody chose
// them.
package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The statuses, as OpenVEX names them.
const (
	NotAffected   = "not_affected"
	Affected      = "affected"
	Fixed         = "fixed"
	Investigating = "under_investigation"
)

// Bounds of a document.
const (
	MaxDocument   = 64 << 20 // bytes
	maxStatements = 200_000  // statement times product
	maxText       = 2000     // bytes of a justification or impact
	maxNotes      = 10
)

// Set holds the statements of several documents. Its methods that read are safe
// for concurrent use.
type Set struct {
	byID  map[string][]*statement // by vulnerability, every name of it
	count int
}

// statement is one status of one vulnerability in one product.
type statement struct {
	event.Statement
	ids     []string
	product product
	time    time.Time // of the statement, else of its document
}

// Len is the number of statements, one for each product of a document's.
func (s *Set) Len() int { return s.count }

// Add reads a document of any of the forms; name is the file's, for messages.
// notes says, a sentence each, which statements cannot be used and why. An error
// means that nothing of the document was taken.
func (s *Set) Add(name string, data []byte) (notes []string, err error) {
	if len(data) > MaxDocument {
		return nil, fmt.Errorf("VEX document %s: it is larger than %d bytes", name, MaxDocument)
	}
	var form struct {
		Context  json.RawMessage `json:"@context"`
		Format   string          `json:"bomFormat"`
		Document struct {
			Version string `json:"csaf_version"`
		} `json:"document"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return nil, fmt.Errorf("VEX document %s: not JSON: %w", name, err)
	}
	r := reading{name: name}
	switch {
	case strings.Contains(string(form.Context), "openvex"):
		err = r.openVEX(data)
	case form.Document.Version != "":
		err = r.csaf(data)
	case form.Format == "CycloneDX":
		err = r.cycloneDX(data)
	default:
		err = errors.New("is none of OpenVEX, CSAF and CycloneDX, as JSON")
	}
	if err != nil {
		return nil, fmt.Errorf("VEX document %s: %w", name, err)
	}
	if s.byID == nil {
		s.byID = map[string][]*statement{}
	}
	for i := range r.out {
		for _, id := range r.out[i].ids {
			s.byID[id] = append(s.byID[id], &r.out[i])
		}
	}
	s.count += len(r.out)
	if r.skipped > len(r.notes) {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d more statements cannot be used", name, r.skipped-len(r.notes)))
	}
	return r.notes, nil
}

// reading is one document on its way in.
type reading struct {
	name    string
	out     []statement
	notes   []string
	skipped int
}

var errMany = fmt.Errorf("has more than %d statements", maxStatements)

func (r *reading) skip(what, reason string) {
	if r.skipped++; len(r.notes) < maxNotes {
		r.notes = append(r.notes, fmt.Sprintf("%s: the statement on %.80s is not used: %s", r.name, what, reason))
	}
}

// add takes a statement on products.
func (r *reading) add(st statement, products []product) error {
	st.ids = slices.Compact(slices.Sorted(slices.Values(st.ids)))
	st.ids = slices.DeleteFunc(st.ids, func(id string) bool { return id == "" || len(id) > 200 })
	st.Justification, st.Impact, st.Author = clip(st.Justification), clip(st.Impact), clip(st.Author)
	st.Document = clip(st.Document)
	switch {
	case len(st.ids) == 0:
		r.skip("no vulnerability", "it names none")
		return nil
	case len(products) == 0:
		r.skip(st.ids[0], "it names no product by package URL, digest or reference")
		return nil
	case st.Status == NotAffected && st.Justification == "" && st.Impact == "":
		r.skip(st.ids[0], "not_affected needs a justification or an impact statement")
		return nil
	}
	if len(r.out)+len(products) > maxStatements {
		return errMany
	}
	for _, p := range products {
		one := st
		one.product = p
		r.out = append(r.out, one)
	}
	return nil
}

func clip(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// Apply parts findings into those that count and those that do not: a statement
// of not_affected or fixed takes a finding out, any other is noted on it. Of
// several statements the newest counts, of two at one time the graver. Findings
// themselves are not changed; the order stays.
func (s *Set) Apply(image event.Image, findings []event.Finding) (kept, excluded []event.Finding) {
	if s == nil || s.count == 0 {
		return findings, nil
	}
	at := identify(image)
	for _, f := range findings {
		st := s.find(&at, &f)
		if st == nil {
			kept = append(kept, f)
			continue
		}
		said := st.Statement
		f.VEX = &said
		if st.Status == NotAffected || st.Status == Fixed {
			excluded = append(excluded, f)
		} else {
			kept = append(kept, f)
		}
	}
	return kept, excluded
}

// Mentions says whether a statement speaks of the finding's vulnerability in its
// package, in whichever image.
func (s *Set) Mentions(f *event.Finding) bool {
	if s == nil || s.count == 0 {
		return false
	}
	for _, id := range append([]string{f.ID}, f.Aliases...) {
		if slices.ContainsFunc(s.byID[id], func(st *statement) bool { return st.product.pkg == nil || matches(st.product.pkg, &f.Package) }) {
			return true
		}
	}
	return false
}

func (s *Set) find(at *identity, f *event.Finding) *statement {
	var best *statement
	for _, id := range append([]string{f.ID}, f.Aliases...) {
		for _, st := range s.byID[id] {
			if !st.product.means(at, &f.Package) {
				continue
			}
			if best == nil || st.time.After(best.time) || st.time.Equal(best.time) && gravity(st.Status) > gravity(best.Status) {
				best = st
			}
		}
	}
	return best
}

func gravity(status string) int {
	return slices.Index([]string{NotAffected, Fixed, Investigating, Affected}, status)
}
