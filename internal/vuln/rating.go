package vuln

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxRatings bounds what one finding shows.
const maxRatings = 20

// Rate adds what publishers say of a finding's CVEs to what its own advisories
// say, each once and sorted by source, computes the scores, and fills in the
// severity where the advisories give none: NVD's before GitHub's, those before
// other publishers' words, and computed ones last.
func Rate(f *event.Finding, known []event.Rating) {
	for _, r := range known {
		if r.Severity.Rank() > event.SeverityUnknown.Rank() || r.Vector != "" {
			f.Ratings = append(f.Ratings, r)
		}
	}
	for i := range f.Ratings {
		if r := &f.Ratings[i]; r.Vector != "" && r.Score == 0 {
			r.Score, _ = Score(r.Vector)
		}
	}
	slices.SortFunc(f.Ratings, func(a, b event.Rating) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Vector, b.Vector), cmp.Compare(a.Severity.Rank(), b.Severity.Rank()))
	})
	f.Ratings = slices.CompactFunc(f.Ratings, func(a, b event.Rating) bool {
		return a.Source == b.Source && a.Vector == b.Vector && a.Severity == b.Severity
	})
	f.Ratings = f.Ratings[:min(len(f.Ratings), maxRatings)]
	if f.Severity.Rank() > event.SeverityUnknown.Rank() {
		return
	}
	best := -1
	for i, r := range f.Ratings {
		if r.Severity.Rank() > event.SeverityUnknown.Rank() && (best < 0 || standing(r.Source) < standing(f.Ratings[best].Source)) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	r := f.Ratings[best]
	f.Severity, f.SeveritySource = r.Severity, r.Source
	f.CVSS = cmp.Or(f.CVSS, r.Vector)
}

// standing of those who rate vulnerabilities of everything, the first best.
func standing(source string) int {
	switch {
	case source == "nvd":
		return 0
	case source == "ghsa":
		return 1
	case strings.HasPrefix(source, "cvss-"):
		return 3
	}
	return 2
}

// rating is what a hit's advisory says; ok is false when that is nothing.
func (h Hit) rating() (r event.Rating, ok bool) {
	r = event.Rating{Source: h.SeveritySource, Severity: h.Severity, Vector: h.Advisory.CVSS}
	if r.Severity.Rank() <= event.SeverityUnknown.Rank() {
		r.Severity = ""
		r.Source = h.Advisory.Source
	}
	return r, r.Severity != "" || r.Vector != ""
}

// Score is the score of a CVSS vector of version 2, 3.0, 3.1 or 4.0, from 0 to
// 10; ok is false for what is no vector.
func Score(vector string) (score float64, ok bool) {
	if len(vector) > maxVector {
		return 0, false
	}
	score, _, err := baseScore(vector)
	return score, err == nil
}
