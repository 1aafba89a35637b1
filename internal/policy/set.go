package policy

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxPolicies bounds one set.
const maxPolicies = 1_000

// Set is all policies in force, of one generation. It never changes and is
// safe for concurrent use; every question is answered from its arguments only.
type Set struct {
	generation uint64
	policies   []*Policy // by name
}

// NewSet puts policies together; generation is what verdicts and acknowledgements
// name. Two policies of one name are an error. The empty set allows everything.
func NewSet(generation uint64, policies []*Policy) (*Set, error) {
	if len(policies) > maxPolicies {
		return nil, fmt.Errorf("%d policies: at most %d can be in force at once", len(policies), maxPolicies)
	}
	sorted := slices.Clone(policies)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	for i, p := range sorted {
		if i > 0 && sorted[i-1].Name == p.Name {
			a := sorted[i-1]
			return nil, fmt.Errorf("two policies are named %q (%s:%d and %s:%d): rename one", p.Name, a.File, a.Line, p.File, p.Line)
		}
	}
	return &Set{generation: generation, policies: sorted}, nil
}

// Generation of the set.
func (s *Set) Generation() uint64 { return s.generation }

// Policies of the set, by name.
func (s *Set) Policies() []*Policy { return slices.Clone(s.policies) }

// ForSubject lists the policies whose scope holds for the subject, by name.
func (s *Set) ForSubject(subject Subject) []*Policy {
	var list []*Policy
	for _, p := range s.policies {
		if p.covers(subject) {
			list = append(list, p)
		}
	}
	return list
}

// covers evaluates the scope. It holds when it holds for any name of the
// image. A label that is absent reads as out of scope; any other failure to
// evaluate leaves the policy in force, since it must not be a way out.
func (p *Policy) covers(s Subject) bool {
	if p.scope == nil {
		return true
	}
	vars := s.variables()
	for _, view := range s.names(ImageConfig{}) {
		vars["image"] = view
		ok, err := p.scope.Eval(vars)
		if ok || err != nil && !missingKey(err) {
			return true
		}
		if !p.scope.Reads("image") {
			return false
		}
	}
	return s.tooManyNames()
}

func missingKey(err error) bool { return strings.Contains(err.Error(), "no such key") }

// judgement collects the verdict of a set.
type judgement struct {
	now     time.Time
	subject Subject
	verdict event.Verdict
	seen    map[string]bool // incomplete sentences
}

func (s *Set) judge(now time.Time, subject Subject, took func(*Policy) bool, each func(*judgement, *Policy)) event.Verdict {
	j := &judgement{now: now, subject: subject, seen: map[string]bool{}}
	j.verdict = event.Verdict{Allowed: true, Generation: s.generation}
	for _, p := range s.policies {
		if took(p) && p.covers(subject) {
			j.verdict.Policies = append(j.verdict.Policies, p.Name)
			each(j, p)
		}
	}
	sort.SliceStable(j.verdict.Violations, func(a, b int) bool {
		return !j.verdict.Violations[a].Audit && j.verdict.Violations[b].Audit
	})
	return j.verdict
}

// violated records a violation of p unless an exception lifts it.
func (j *judgement) violated(p *Policy, v event.Violation) {
	if p.lifts(j.now, j.subject, v.Rule) {
		return
	}
	if end := p.ended(j.now, j.subject, v.Rule); !end.IsZero() {
		v.Message += fmt.Sprintf(" (the exception for it ended on %s)", end.AddDate(0, 0, -1).Format(time.DateOnly))
	}
	j.record(p, v)
}

func (j *judgement) record(p *Policy, v event.Violation) {
	v.Policy = p.Name
	v.Audit = !p.Enforces(j.subject.Stage)
	if !v.Audit {
		j.verdict.Allowed = false
	}
	j.verdict.Violations = append(j.verdict.Violations, v)
}

// incomplete notes what could not be judged, each sentence once.
func (j *judgement) incomplete(format string, args ...any) {
	sentence := fmt.Sprintf(format, args...)
	if !j.seen[sentence] {
		j.seen[sentence] = true
		j.verdict.Incomplete = append(j.verdict.Incomplete, sentence)
	}
}

// apply judges one rule of the user's own. A condition that cannot be
// evaluated is a violation: a deny must not be lifted by an error.
func (j *judgement) apply(p *Policy, r rule, names []*imageView, vars map[string]any) {
	for _, view := range names {
		vars["image"] = view
		denied, err := r.deny.Eval(vars)
		if err != nil {
			j.violated(p, event.Violation{Rule: r.id, Source: r.source, Remediation: "Mend the condition of the rule",
				Message: fmt.Sprintf("%s (the condition could not be evaluated: %v)", r.message, err)})
			return
		}
		if denied {
			j.violated(p, event.Violation{Rule: r.id, Message: r.message, Remediation: r.remediation, Source: r.source})
			return
		}
		if !r.deny.Reads("image") {
			return
		}
	}
	if j.subject.tooManyNames() {
		j.violated(p, event.Violation{Rule: r.id, Source: r.source, Remediation: "Remove names from the image",
			Message: fmt.Sprintf("%s (the image has more than %d names, so not all could be judged)", r.message, maxNames)})
	}
}
