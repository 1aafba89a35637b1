package policy

import (
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// exception lifts rules of the policy that it stands in.
type exception struct {
	match   *condition.Condition
	reason  string
	expires time.Time // the first moment at which it no longer counts
}

func (ps parser) exceptions(v document.Value) []exception {
	var list []exception
	v.List(maxExceptions, func(v document.Value) {
		var x exception
		ok := v.Map(document.Fields{
			"match":   func(v document.Value) { x.match = ps.envs.exception.Compile(v) },
			"reason":  func(v document.Value) { x.reason = v.String() },
			"expires": func(v document.Value) { x.expires = parseExpiry(v) },
		})
		if ok {
			v.Require("match", "reason", "expires")
		}
		list = append(list, x)
	})
	return list
}

// parseExpiry reads a date; the day itself still counts, in UTC.
func parseExpiry(v document.Value) time.Time {
	day, err := time.Parse(time.DateOnly, v.Text)
	if err != nil {
		v.Fail("%q is not a date: write it as 2027-03-01", v.Text)
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// waiver switches one always-on detection off.
type waiver struct {
	Waiver
	source  string
	expires time.Time
}

func parseWaivers(v document.Value) []waiver {
	var list []waiver
	v.List(maxExceptions, func(v document.Value) {
		w := waiver{source: v.Source()}
		ok := v.Map(document.Fields{
			"detection": func(v document.Value) { w.Detection = detectionID(v) },
			"reason":    func(v document.Value) { w.Reason = v.String() },
			"expires": func(v document.Value) {
				w.expires = parseExpiry(v)
				w.Expires = v.Text
			},
		})
		if ok {
			v.Require("detection", "reason", "expires")
		}
		list = append(list, w)
	})
	return list
}

// lifts says whether an exception of the policy lifts that rule for that
// subject. A match that reads finding says nothing about rules that are not
// about one finding.
func (p *Policy) lifts(now time.Time, s Subject, ruleID string) bool {
	lifter := p.lifter(now, s, ruleID)
	return slices.ContainsFunc(lifter.exceptions, func(x exception) bool {
		return !x.match.Reads("finding") && lifter.everyName(x.match)
	})
}

// ended says when the last exception ended that would have lifted the rule;
// the zero time when there was none.
func (p *Policy) ended(now time.Time, s Subject, ruleID string) time.Time {
	var last time.Time
	for _, x := range p.exceptions {
		if now.Before(x.expires) || x.match.Reads("finding") || x.expires.Before(last) {
			continue
		}
		if p.lifts(x.expires.Add(-1), s, ruleID) {
			last = x.expires
		}
	}
	return last
}

// lifter holds what the exceptions of one policy read about one subject and
// rule. It belongs to one goroutine.
type lifter struct {
	exceptions   []exception // those that still count
	names        []*imageView
	tooManyNames bool
	vars         map[string]any
	// Of one image, for findings.
	memo          *Memo
	aboutFindings []aboutFinding
}

func (p *Policy) lifter(now time.Time, s Subject, ruleID string) *lifter {
	l := &lifter{}
	for _, x := range p.exceptions {
		if now.Before(x.expires) {
			l.exceptions = append(l.exceptions, x)
		}
	}
	if len(l.exceptions) > 0 {
		l.names, l.tooManyNames = s.names(ImageConfig{}), s.tooManyNames()
		l.vars = s.variables()
		l.vars["rule"] = ruleID
		l.vars["finding"] = &event.Finding{}
	}
	return l
}

// liftsFinding says whether an exception that reads finding lifts this one; place
// is where it stands in the facts.
func (l *lifter) liftsFinding(f Found, place int) bool {
	for i := range l.aboutFindings {
		if l.liftedBy(&l.aboutFindings[i], f, place) {
			return true
		}
	}
	return false
}

// aboutFinding is an exception that reads finding, and what is remembered of its
// answers: nil when nothing can be.
type aboutFinding struct {
	match *condition.Condition
	words []memoWord
}

func (l *lifter) liftedBy(x *aboutFinding, f Found, place int) bool {
	var known *memoWord
	if x.words != nil && place < len(l.memo.Numbers) {
		if known = &x.words[l.memo.Numbers[place]]; *known != unasked {
			return *known == lifted
		}
	}
	whole := f.value()
	l.vars["finding"] = &whole
	answer := l.everyName(x.match)
	if known != nil {
		if *known = spared; answer {
			*known = lifted
		}
	}
	return answer
}

// Found is a finding and the package that it is in: packages that have the same
// finding share it. Its own Package says nothing.
type Found struct {
	*event.Finding
	In *event.Package
}

// value is the whole finding.
func (f Found) value() event.Finding {
	out := *f.Finding
	out.Package = *f.In
	return out
}

// Memo remembers what exceptions say about findings, for who judges many images
// that have the same ones by one set and the same intelligence. It belongs to
// one goroutine.
type Memo struct {
	// Findings stand for those of ImageFacts, which holds none then. Many images
	// share them, and nobody changes them.
	Findings []Found
	// Numbers tells the findings apart, in their order, from 0 to below Most. A number means the same finding, whichever image it is in.
	Numbers []int32
	Most    int
	known   map[*condition.Condition][]memoWord
}

type memoWord uint8

const (
	unasked memoWord = iota
	lifted
	spared
)

// of is what is remembered of a match by the findings' numbers, nil when nothing
// can be. A match that reads more than the finding says something else in another
// image.
func (m *Memo) of(match *condition.Condition) []memoWord {
	if m == nil {
		return nil
	}
	words, ok := m.known[match]
	if !ok {
		if !slices.ContainsFunc([]string{"image", "container", "host", "stage"}, match.Reads) && !slices.ContainsFunc(placeFields(), match.ReadsField) {
			words = make([]memoWord, m.Most)
		}
		if m.known == nil {
			m.known = map[*condition.Condition][]memoWord{}
		}
		m.known[match] = words
	}
	return words
}

// everyName evaluates a match. It must hold for every name that the image has,
// if it reads the image, and one that cannot be evaluated lifts nothing.
func (l *lifter) everyName(match *condition.Condition) bool {
	for _, view := range l.names {
		l.vars["image"] = view
		if ok, err := match.Eval(l.vars); err != nil || !ok {
			return false
		}
		if !match.Reads("image") {
			return true
		}
	}
	return !l.tooManyNames
}
