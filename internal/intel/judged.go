package intel

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Judged is a catalogue that a bundle judged. It is safe for concurrent use, as
// long as the bundle is open and the catalogue does not change.
type Judged struct {
	Prints Prints

	bundle *Bundle
	list   []Judgeable
	about  []answer
	scopes []judgedScope
	now    time.Time
}

// answer is what is known of one package besides its findings.
type answer struct {
	scope uint32 // index into scopes
	kind  answerKind
}

type answerKind uint8

const (
	answerRuled     answerKind = iota // its distribution answers for it
	answerJudged                      // by advisories
	answerAbsent                      // there are no advisories of its ecosystem
	answerUnordered                   // its version has no place in the order
)

// judgedScope is an ecosystem as advisories have it, and what is to be said of
// the age of what is known.
type judgedScope struct {
	scope
	old []string
}

// JudgeAll judges every package of a catalogue once; likelihood as in Prints.
// each, if it is not nil, hears the findings of each package that has some, as
// Findings gives them, for several packages at once. They are not remembered.
func (b *Bundle) JudgeAll(ctx context.Context, c *Catalogue, likelihood bool, each func(number uint32, findings []event.Finding)) (*Judged, error) {
	out := &Judged{Prints: make(Prints, len(c.list)), bundle: b, list: c.list, about: make([]answer, len(c.list)), now: b.now()}
	m := newMatching(b, report.Distro{})
	index := map[string]uint32{}
	for i := range c.list {
		ecosystem := c.list[i].Ecosystem
		n, ok := index[ecosystem]
		if !ok {
			at := m.scope(ecosystem)
			n = uint32(len(out.scopes))
			out.scopes = append(out.scopes, judgedScope{at, b.manifest.old(at.name, out.now)})
			index[ecosystem] = n
		}
		out.about[i].scope = n
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for begin := 0; begin < len(c.list); begin += judgedAtOnce {
		group.Go(func() error { return out.judge(ctx, begin, min(begin+judgedAtOnce, len(c.list)), likelihood, each) })
	}
	return out, group.Wait()
}

// judgedAtOnce is how many packages are judged at a time, beside others.
const judgedAtOnce = 1024

// judge judges some of the list.
func (j *Judged) judge(ctx context.Context, begin, end int, likelihood bool, each func(uint32, []event.Finding)) error {
	m := newMatching(j.bundle, report.Distro{})
	for i := begin; i < end && ctx.Err() == nil; i++ {
		found, kind, err := m.answer(ctx, &j.list[i])
		if err != nil {
			return fmt.Errorf("read the intelligence bundle %s: %w", j.bundle.manifest.Version, err)
		}
		j.about[i].kind = kind
		if j.Prints[i], err = digestOf(found, likelihood); err != nil {
			return err
		}
		if each != nil && len(found) > 0 {
			each(uint32(i), found)
		}
	}
	return ctx.Err()
}

// answer is what a bundle says of what a catalogue holds.
func (m *matching) answer(ctx context.Context, j *Judgeable) ([]event.Finding, answerKind, error) {
	if m.rules(j.Owner) {
		return nil, answerRuled, nil
	}
	at := m.scope(j.Ecosystem)
	if !at.known || at.order == nil {
		return nil, answerAbsent, nil
	}
	if !m.bundle.mayKnow(j.Subject) {
		return nil, answerJudged, nil
	}
	judged, err := m.bundle.judgedOnce(ctx, j.Subject, at.order)
	if judged.unordered {
		return judged.findings, answerUnordered, err
	}
	return judged.findings, answerJudged, err
}

// Findings of one package of the catalogue, without their Package. They are not
// to be changed.
func (j *Judged) Findings(ctx context.Context, number uint32) ([]event.Finding, error) {
	if j.Prints[number] == 0 {
		return nil, nil
	}
	known, err := j.bundle.judged(ctx, j.list[number].Subject, j.scopes[j.about[number].scope].order)
	return known.findings, err
}

// Gaps is what Match would say could not be judged, or only with old data, of an
// image of these packages, in the image's own order.
func (j *Judged) Gaps(distro report.Distro, numbers []uint32) []string {
	seen := make([]bool, len(j.scopes))
	m := matching{bundle: j.bundle}
	for _, n := range numbers {
		a := j.about[n]
		name := j.scopes[a.scope].name
		switch a.kind {
		case answerRuled:
			continue
		case answerAbsent:
			if m.absent == nil {
				m.absent = map[string]int{}
			}
			m.absent[name]++
			continue
		case answerUnordered:
			if m.unordered == nil {
				m.unordered = map[string][]string{}
			}
			s := &j.list[n].Subject
			m.unordered[name] = append(m.unordered[name], s.Name+" "+s.Version)
		case answerJudged:
		}
		if !seen[a.scope] {
			seen[a.scope] = true
			if len(j.scopes[a.scope].old) > 0 {
				if m.seen == nil {
					m.seen = map[string]bool{}
				}
				m.seen[name] = true
			}
		}
	}
	return append(m.gaps(j.now), ended(distro, vuln.Distribution(distro.ID, distro.Version, distro.Codename), j.now)...)
}
