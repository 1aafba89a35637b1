// Package check judges the files that say how containers are built and run:
// Dockerfiles, Kubernetes manifests, Compose files, and the configuration of an
// image. Each check is data in content/checks: a condition over a typed view of
// one subject (an instruction, a container, a service, …), with a severity, a
// remediation and references. Go code here only reads the files.
package check

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Check is one check. It never changes.
type Check struct {
	ID          string
	Title       string
	Severity    event.Severity
	On          string // kind of subject: dockerfile.stage, kubernetes.container, …
	Remediation string
	References  []string
	Source      string // file:line

	when    *condition.Condition
	at      []string // field of the subject that the result points to
	message template
	fire    []sample
	quiet   []sample
}

// When is the CEL text of the condition.
func (c *Check) When() string { return c.when.Text }

// sample is a file, or a part of one, that a check must or must not fire on.
type sample struct {
	node   *document.Node
	source string
}

// Checks are all loaded checks. They never change and are safe for concurrent
// use.
type Checks struct {
	byID map[string]*Check
	on   map[string][]*Check
}

// All lists the checks by id.
func (cs *Checks) All() []*Check {
	list := make([]*Check, 0, len(cs.byID))
	for _, c := range cs.byID {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Check) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Result is what was found in one file.
type Result struct {
	Found   []event.Misconfiguration
	Ignored []event.Ignored
	// Gaps says what could not be judged, one sentence each.
	Gaps []string
}

// subject is one thing that checks look at.
type subject struct {
	on        string
	resource  string
	path      string                     // of the file
	line      int                        // where it begins
	enclosing []int                      // where what holds it begins, for ignores
	lineOf    func(field ...string) int  // place of a field; nil: line
	variables map[string]any             // for conditions
	place     func(line int) event.Place // of a result
}

// judge holds every check against a subject.
func (cs *Checks) judge(s subject, found *[]violation, gaps *[]string) {
	for _, c := range cs.on[s.on] {
		fires, err := c.when.Eval(s.variables)
		if err != nil {
			*gaps = append(*gaps, s.path+": check "+c.ID+" gives no answer: "+err.Error())
			continue
		}
		if fires {
			*found = append(*found, c.violation(s))
		}
	}
}

// violation is a misconfiguration and the lines whose comments may ignore it.
type violation struct {
	event.Misconfiguration
	lines []int
}

func (c *Check) violation(s subject) violation {
	line, lines := s.line, append([]int{s.line}, s.enclosing...)
	for i := range c.at {
		if s.lineOf != nil {
			line = s.lineOf(c.at[:i+1]...)
			lines = append(lines, line)
		}
	}
	return violation{
		Misconfiguration: event.Misconfiguration{
			ID: c.ID, Title: c.Title, Severity: c.Severity, Message: c.message.fill(s.variables), Remediation: c.Remediation,
			References: c.References, Resource: s.resource, Place: s.place(line),
		},
		lines: lines,
	}
}

// file makes the result of one file: what its comments ask to leave out is
// taken aside.
func (cs *Checks) file(path, text string, now time.Time, subjects []subject) Result {
	var found []violation
	var res Result
	for _, s := range subjects {
		s.path = path
		s.place = func(line int) event.Place { return event.Place{Kind: event.PlaceFile, Path: path, Line: line} }
		cs.judge(s, &found, &res.Gaps)
	}
	comments := readComments(path, text)
	res.Gaps = append(res.Gaps, comments.gaps(cs, now)...)
	for _, v := range found {
		if by := comments.ignores(v, now); by != nil {
			res.Ignored = append(res.Ignored, event.Ignored{Misconfiguration: v.Misconfiguration, Reason: by.reason, Until: by.until})
		} else {
			res.Found = append(res.Found, v.Misconfiguration)
		}
	}
	res.Found = sorted(res.Found)
	return res
}

// sorted puts results in the order of the file, each once.
func sorted(found []event.Misconfiguration) []event.Misconfiguration {
	sort.SliceStable(found, func(i, j int) bool {
		a, b := &found[i], &found[j]
		if a.Place.Line != b.Place.Line {
			return a.Place.Line < b.Place.Line
		}
		return a.ID < b.ID
	})
	return slices.CompactFunc(found, func(a, b event.Misconfiguration) bool {
		return a.ID == b.ID && a.Place == b.Place && a.Resource == b.Resource && a.Message == b.Message
	})
}
