package secret

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Finder looks for secrets by a set of rules. It never changes and is safe for
// concurrent use.
type Finder struct {
	rules    []*Rule // generic ones last
	keywords *keywordFinder
	scratch  sync.Pool // *[]hit
}

// Bounds of one text.
const (
	maxHits  = 200_000 // keywords
	maxFound = 100     // secrets
)

// New makes a Finder with the built-in rules.
func New() (*Finder, error) {
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	return NewFinder(rules), nil
}

// NewFinder makes a Finder with these rules.
func NewFinder(rules []Rule) *Finder {
	f := &Finder{}
	for i := range rules {
		f.rules = append(f.rules, &rules[i])
	}
	slices.SortStableFunc(f.rules, compare)
	f.keywords = newKeywordFinder(f.rules)
	f.scratch.New = func() any { return new([]hit) }
	return f
}

// Found is one secret in a text.
type Found struct {
	event.Secret     // with the line and nothing else of its place
	Start, End   int // of the value, in bytes
}

// hit is a keyword of a rule.
type hit struct{ rule, at int }

// Examine finds the secrets of a file: scan's Examiner.
func (f *Finder) Examine(path string, content []byte) (event.Content, error) {
	if notText(content) || isPassage(path) {
		return event.Content{}, nil
	}
	found, all := f.find(event.PlaceFile, path, content)
	var out event.Content
	for i := range found {
		out.Secrets = append(out.Secrets, found[i].Secret)
	}
	if !all {
		out.Gaps = append(out.Gaps, fmt.Sprintf("has more than %d secrets or %d keywords: not all were looked at", maxFound, maxHits))
	}
	return out, nil
}

// Text finds the secrets of a text that stands in an image's configuration:
// kind is one of the kinds of places.
func (f *Finder) Text(kind, text string) []Found {
	found, _ := f.find(kind, "", []byte(text))
	return found
}

func (f *Finder) find(kind, path string, text []byte) (found []Found, all bool) {
	scratch := f.scratch.Get().(*[]hit)
	defer f.scratch.Put(scratch)
	hits := (*scratch)[:0]
	f.keywords.find(text, func(w *keyword, at int) bool {
		for _, r := range w.rules {
			hits = append(hits, hit{r, at})
		}
		return len(hits) < maxHits
	})
	*scratch = hits
	if len(hits) == 0 {
		return nil, true
	}
	slices.SortFunc(hits, func(a, b hit) int {
		if a.rule != b.rule {
			return a.rule - b.rule
		}
		return a.at - b.at
	})
	s := search{text: text, kind: kind, path: path, seen: map[[sha256.Size]byte]bool{}}
	for i := 0; i < len(hits) && len(s.found) < maxFound; {
		end := i
		for end < len(hits) && hits[end].rule == hits[i].rule {
			end++
		}
		s.rule(f.rules[hits[i].rule], hits[i:end])
		i = end
	}
	slices.SortStableFunc(s.found, func(a, b Found) int { return a.Start - b.Start })
	return s.found, len(hits) < maxHits && len(s.found) < maxFound
}

// search is what is being found in one text.
type search struct {
	text       []byte
	kind, path string
	found      []Found
	seen       map[[sha256.Size]byte]bool // values
}

// rule looks around the keywords of one rule; hits are in order of the text.
func (s *search) rule(r *Rule, hits []hit) {
	if !r.takes(s.kind, s.path) {
		return
	}
	c := r.compile()
	for i := 0; i < len(hits); {
		start := max(0, hits[i].at-r.before)
		end := hits[i].at + r.after
		i++
		for i < len(hits) && hits[i].at-r.before <= end {
			end = hits[i].at + r.after
			i++
		}
		end = min(end, len(s.text))
		for _, m := range c.pattern.FindAllSubmatchIndex(s.text[start:end], maxFound) {
			at, to := m[0], m[1]
			if len(m) > 2 && m[2] >= 0 {
				at, to = m[2], m[3]
			}
			s.value(r, c, start+at, start+to)
		}
	}
}

// value keeps a value unless something says that it is no secret.
func (s *search) value(r *Rule, c *compiled, start, end int) {
	value := s.text[start:end]
	switch {
	case len(s.found) >= maxFound,
		r.entropy > 0 && entropy(value) < r.entropy,
		c.allow != nil && c.allow.Match(value),
		placeholder(value),
		slices.ContainsFunc(s.found, func(f Found) bool { return start < f.End && f.Start < end }):
		return
	}
	sum := sha256.Sum256(value)
	if s.seen[sum] {
		return
	}
	s.seen[sum] = true
	line := 1 + bytes.Count(s.text[:start], []byte("\n"))
	s.found = append(s.found, Found{Start: start, End: end, Secret: event.Secret{
		Rule: r.ID, Title: r.Title, Severity: r.Severity, Excerpt: excerpt(value), Place: event.Place{Line: line},
	}})
}

// excerpt is what people see of a value: see event.Secret.
func excerpt(value []byte) string {
	if len(value) < 16 {
		return "…"
	}
	head := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, string(value[:4]))
	return head + "…"
}

// entropy is Shannon's, in bits per byte of the value.
func entropy(value []byte) float64 {
	if len(value) == 0 {
		return 0
	}
	var count [256]int
	for _, b := range value {
		count[b]++
	}
	var bits float64
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(value))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
