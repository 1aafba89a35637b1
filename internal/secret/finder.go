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
	scratch  sync.Pool // *search
}

// Bounds of one text.
const (
	maxWork  = 64 << 20 // bytes that expressions are held against
	maxFound = 100      // secrets
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
	f.scratch.New = func() any { return newSearch(len(f.rules)) }
	return f
}

// Found is one secret in a text.
type Found struct {
	event.Secret     // with the line and nothing else of its place
	Start, End   int // of the value, in bytes
}

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
		out.Gaps = append(out.Gaps, fmt.Sprintf("has more than %d secrets, or too many words that stand beside secrets: not everything was looked at", maxFound))
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
	s, _ := f.scratch.Get().(*search)
	defer f.scratch.Put(s)
	s.start(kind, path, text)
	f.keywords.find(text, func(w *keyword, at int) bool {
		for _, r := range w.rules {
			s.met(r, f.rules[r], at)
		}
		return true
	})
	slices.Sort(s.hit)
	for _, r := range s.hit {
		s.rule(f.rules[r], s.windows[r])
	}
	slices.SortStableFunc(s.found, func(a, b Found) int { return a.Start - b.Start })
	return s.found, s.work < maxWork && len(s.found) < maxFound
}

// search is what is being found in one text.
type search struct {
	text       []byte
	kind, path string
	windows    [][]window // by rule, in order of the text
	hit        []int      // rules that have windows
	refused    []int      // rules that do not take the place
	state      []uint8    // by rule
	work       int
	found      []Found
	seen       map[[sha256.Size]byte]bool // values
}

// window is a part of a text, around keywords.
type window struct{ start, end int }

// The states of a rule.
const (
	unmet = iota
	taking
	refusing
)

func newSearch(rules int) *search {
	return &search{windows: make([][]window, rules), state: make([]uint8, rules)}
}

func (s *search) start(kind, path string, text []byte) {
	for _, r := range s.hit {
		s.windows[r], s.state[r] = s.windows[r][:0], unmet
	}
	for _, r := range s.refused {
		s.state[r] = unmet
	}
	s.text, s.kind, s.path = text, kind, path
	s.hit, s.refused, s.found, s.work, s.seen = s.hit[:0], s.refused[:0], nil, 0, nil
}

// met widens the rule's last window, or begins another.
func (s *search) met(index int, r *Rule, at int) {
	if s.state[index] == unmet {
		if r.takes(s.kind, s.path) {
			s.state[index] = taking
			s.hit = append(s.hit, index)
		} else {
			s.state[index] = refusing
			s.refused = append(s.refused, index)
		}
	}
	if s.state[index] == refusing {
		return
	}
	w := window{max(0, at-r.before), min(len(s.text), at+r.after)}
	all := s.windows[index]
	if n := len(all); n > 0 && w.start <= all[n-1].end {
		all[n-1].end = max(w.end, all[n-1].end)
		return
	}
	s.windows[index] = append(all, w)
}

func (s *search) rule(r *Rule, windows []window) {
	c := r.compile()
	for _, w := range windows {
		if s.work += w.end - w.start; s.work >= maxWork || len(s.found) >= maxFound {
			return
		}
		for _, m := range c.pattern.FindAllSubmatchIndex(s.text[w.start:w.end], maxFound) {
			s.value(r, c, w.start, m)
		}
	}
}

// value keeps a value unless something says that it is no secret.
func (s *search) value(r *Rule, c *compiled, base int, match []int) {
	start, end := base+match[0], base+match[1]
	for i := 2; i < len(match); i += 2 {
		if match[i] >= 0 {
			start, end = base+match[i], base+match[i+1]
			break
		}
	}
	value := s.text[start:end]
	switch {
	case start == end, len(s.found) >= maxFound,
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
	if s.seen == nil {
		s.seen = map[[sha256.Size]byte]bool{}
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
