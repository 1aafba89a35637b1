package report

import (
	"errors"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/vex"
)

// Statements are what an administrator's VEX documents say. A report is kept
// without them, and they are applied whenever it is judged or shown: taken back,
// they take nothing with them.
type Statements struct{ set *vex.Set }

// ReadStatements reads documents. One that cannot be read is left out and named
// in the error; the others count.
func ReadStatements(documents []api.VEXDocument) (*Statements, error) {
	s := &Statements{set: &vex.Set{}}
	var wrong []error
	for _, d := range documents {
		if _, err := s.set.Add(d.Name, d.Document); err != nil {
			wrong = append(wrong, err)
		}
	}
	return s, errors.Join(wrong...)
}

// Any says whether there is a statement at all.
func (s *Statements) Any() bool { return s != nil && s.set.Len() > 0 }

// Mention says whether a statement speaks of a finding's vulnerability in its
// package, in whichever image.
func (s *Statements) Mention(f *event.Finding) bool { return s != nil && s.set.Mentions(f) }

// ApplyTo takes the findings out that do not count by what is said; nil says
// nothing.
func (s *Statements) ApplyTo(r *Report) {
	if s == nil {
		return
	}
	kept, excluded := s.set.Apply(r.provenImage(), r.Findings)
	r.Findings, r.Excluded = kept, append(slices.Clip(r.Excluded), excluded...)
}

// Facts is what policy judges the report by. The report stays as it is.
func (s *Statements) Facts(r *Report) policy.ImageFacts {
	stated := *r
	s.ApplyTo(&stated)
	return stated.Facts()
}

// provenImage is the image as far as statements may rest on it: a digest in a
// reference counts only where it was compared with what was read.
func (r *Report) provenImage() event.Image {
	image := r.Image
	if r.Integrity == "" {
		image.References = slices.DeleteFunc(slices.Clone(image.References), func(reference string) bool {
			_, digest, pinned := strings.Cut(reference, "@")
			return pinned && !slices.Contains(image.Pinned, digest)
		})
	}
	return image
}
