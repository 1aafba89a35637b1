package intel

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Sweep judges the packages of many inventories, each distinct one once. It
// remembers nothing of them but what is to be said of ecosystems, so that its
// size does not grow with their number. Safe for concurrent use, as long as the
// bundle is open.
type Sweep struct {
	bundle     *Bundle
	likelihood bool
	now        time.Time

	mu        sync.RWMutex
	index     map[string]uint32 // of scopes, by ecosystem as packages have it
	scopes    []judgedScope
	unordered []string // packages whose version has no place in the order
}

// Sweep begins one. likelihood says that a changed EPSS score counts as a change
// too: publishers change them all every day, so that is only for policies that
// read them.
func (b *Bundle) Sweep(likelihood bool) *Sweep {
	return &Sweep{bundle: b, likelihood: likelihood, now: b.now(), index: map[string]uint32{}}
}

// Result is what a bundle says of one package.
type Result struct {
	Findings []event.Finding // without their Package; not to be changed
	// Each is a number of each finding: the same for those that differ in nothing
	// but likelihood and what publishers wrote (Title, URL, Ratings).
	Each []uint64
	// Print is a number that changes when the findings do, the same in every
	// process; 0 for none.
	Print uint64
	Known Known
}

// Known is what a sweep has to say of a package besides its findings, in few
// bytes: there is one for each distinct package. See Gaps.
type Known struct {
	scope uint32 // index into scopes
	// text is one more than the index into unordered, 0 for what is ordered.
	text uint32
	kind answerKind
}

type answerKind uint8

const (
	answerRuled  answerKind = iota // its distribution answers for it
	answerJudged                   // by advisories
	answerAbsent                   // there are no advisories of its ecosystem
)

// judgedScope is an ecosystem as advisories have it, and what is to be said of
// the age of what is known.
type judgedScope struct {
	scope
	old []string
}

// Each judges some packages and gives f what is known of the i-th. Packages that
// are the same to advisories are looked up once: those of one call.
func (s *Sweep) Each(ctx context.Context, list []Judgeable, f func(i int, r Result) error) error {
	m := newMatching(s.bundle, report.Distro{})
	done := make(map[Judgeable]Result, len(list))
	for i := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, ok := done[list[i]]
		if !ok {
			var err error
			if r, err = s.judge(ctx, m, &list[i]); err != nil {
				return fmt.Errorf("read the intelligence bundle %s: %w", s.bundle.manifest.Version, err)
			}
			done[list[i]] = r
		}
		if err := f(i, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sweep) judge(ctx context.Context, m *matching, j *Judgeable) (r Result, err error) {
	number, at := s.scope(m, j.Ecosystem)
	r.Known = Known{scope: number, kind: answerJudged}
	switch {
	case m.rules(j.Owner):
		r.Known.kind = answerRuled
		return r, nil
	case !at.known || at.order == nil:
		r.Known.kind = answerAbsent
		return r, nil
	case !s.bundle.mayKnow(j.Subject):
		return r, nil
	}
	judged, err := s.bundle.judge(ctx, j.Subject, at.order)
	if err != nil {
		return r, err
	}
	if judged.unordered {
		r.Known.text = s.remember(j.Name + " " + j.Version)
	}
	r.Findings = judged.findings
	r.Print, r.Each, err = digestOf(judged.findings, s.likelihood)
	return r, err
}

// scope numbers an ecosystem.
func (s *Sweep) scope(m *matching, ecosystem string) (uint32, scope) {
	s.mu.RLock()
	n, ok := s.index[ecosystem]
	var at scope
	if ok {
		at = s.scopes[n].scope
	}
	s.mu.RUnlock()
	if ok {
		return n, at
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok = s.index[ecosystem]; ok {
		return n, s.scopes[n].scope
	}
	at = m.scope(ecosystem)
	n = uint32(len(s.scopes))
	s.scopes = append(s.scopes, judgedScope{at, s.bundle.manifest.old(at.name, s.now)})
	s.index[ecosystem] = n
	return n, at
}

func (s *Sweep) remember(text string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unordered = append(s.unordered, text)
	return uint32(len(s.unordered))
}

// Gaps is what Match would say could not be judged, or only with old data, of an
// image of these packages, in the image's own order. It is for when the sweep is
// over: Each must not run meanwhile.
func (s *Sweep) Gaps(distro report.Distro, packages []Known) []string {
	var seen []bool
	m := matching{bundle: s.bundle}
	for _, k := range packages {
		at := &s.scopes[k.scope]
		switch k.kind {
		case answerRuled:
			continue
		case answerAbsent:
			if m.absent == nil {
				m.absent = map[string]int{}
			}
			m.absent[at.name]++
			continue
		case answerJudged:
		}
		if k.text > 0 {
			if m.unordered == nil {
				m.unordered = map[string][]string{}
			}
			m.unordered[at.name] = append(m.unordered[at.name], s.unordered[k.text-1])
		}
		if len(at.old) == 0 {
			continue
		}
		if seen == nil {
			seen = make([]bool, len(s.scopes))
		}
		if !seen[k.scope] {
			seen[k.scope] = true
			if m.seen == nil {
				m.seen = map[string]bool{}
			}
			m.seen[at.name] = true
		}
	}
	return append(m.gaps(s.now), ended(distro, vuln.Distribution(distro.ID, distro.Version, distro.Codename), s.now)...)
}
