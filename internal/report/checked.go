package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Checked is what checking files that describe containers found. Its files are
// relative to where the command ran, or as the user named them.
type Checked struct {
	Schema            int                      `json:"schema"`
	Tool              string                   `json:"tool"` // "breakwater <version>"
	Time              time.Time                `json:"time"`
	Files             []string                 `json:"files"` // that were judged
	Misconfigurations []event.Misconfiguration `json:"misconfigurations"`
	Ignored           []event.Ignored          `json:"ignored,omitempty"`
	// Gaps says what could not be judged, one sentence each.
	Gaps    []string       `json:"gaps,omitempty"`
	Verdict *event.Verdict `json:"verdict,omitempty"` // nil when no policy was asked
}

// JSON writes the result as one JSON document.
func (c *Checked) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(c)
}

// Table writes the result for people, file by file. Colour is for terminals
// only; the caller knows.
func (c *Checked) Table(w io.Writer, colour bool) error {
	t := &table{w: bufio.NewWriter(w), colour: colour}
	file := ""
	for _, m := range c.Misconfigurations {
		if m.Place.Path != file {
			if file != "" {
				t.line("")
			}
			file = m.Place.Path
			t.line("%s", t.paint(Printable(file), bold))
		}
		t.misconfiguration(m)
	}
	t.verdict(c.Verdict, c.Gaps)
	var ignored []string
	for _, i := range c.Ignored {
		ignored = append(ignored, fmt.Sprintf("%s:%d: %s: %s", i.Place.Path, i.Place.Line, i.ID, i.Reason))
	}
	t.sentences("left out by a comment", ignored)
	t.sentences("not judged", c.Gaps)
	if len(c.Misconfigurations)+len(ignored)+len(c.Gaps) > 0 {
		t.line("")
	}
	t.line("%s", c.Sentence())
	return t.w.Flush()
}

func (t *table) misconfiguration(m event.Misconfiguration) {
	where := ""
	if m.Resource != "" {
		where = " " + t.paint("("+Printable(m.Resource)+")", dim)
	}
	t.line("%5d  %s  %s%s", m.Place.Line, t.paint(fmt.Sprintf("%-8s", m.Severity), severityColour(m.Severity)), Printable(m.ID), where)
	t.line("       %s", Printable(m.Message))
	t.line("       way out: %s", Printable(m.Remediation))
}

// Sentence sums the result up.
func (c *Checked) Sentence() string {
	files := plural(len(c.Files), "file", "files")
	if len(c.Files) == 0 {
		return "no file checked"
	}
	if len(c.Misconfigurations) == 0 {
		return files + " checked: nothing found"
	}
	count := map[event.Severity]int{}
	for _, m := range c.Misconfigurations {
		count[m.Severity]++
	}
	var parts []string
	for _, s := range []event.Severity{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return fmt.Sprintf("%s checked: %s (%s)", files, plural(len(c.Misconfigurations), "misconfiguration", "misconfigurations"), strings.Join(parts, ", "))
}

// SARIF writes the result as SARIF 2.1.0: one rule a check, one result a
// misconfiguration at its file and line, suppressed ones marked as such.
func (c *Checked) SARIF(w io.Writer) error {
	s := &sarifBuilder{index: map[string]int{}}
	results := []sarifResult{}
	for _, m := range c.Misconfigurations {
		results = append(results, s.misconfiguration(m, nil))
	}
	for _, i := range c.Ignored {
		results = append(results, s.misconfiguration(i.Misconfiguration, []sarifSuppression{{"inSource", Printable(i.Reason)}}))
	}
	name, version, _ := strings.Cut(c.Tool, " ")
	rules := s.rules
	if rules == nil {
		rules = []sarifRule{}
	}
	run := map[string]any{
		"tool":              sarifTool{sarifDriver{Name: cmp.Or(name, "breakwater"), Version: version, URI: "https://github.com/breakwater-sec/breakwater", Rules: rules}},
		"automationDetails": sarifAutomation{"breakwater/check/"},
		"invocations":       []sarifInvocation{{Successful: true, Notifications: notifications(&Report{Gaps: c.Gaps})}},
		"results":           results,
		"columnKind":        "utf16CodeUnits",
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"$schema": sarifSchema, "version": "2.1.0", "runs": []any{run}})
}

func (s *sarifBuilder) misconfiguration(m event.Misconfiguration, suppressed []sarifSuppression) sarifResult {
	help := m.Remediation
	url := ""
	if i := slices.IndexFunc(m.References, func(r string) bool { return strings.HasPrefix(r, "https://") }); i >= 0 {
		url = m.References[i]
	}
	rule := s.rule(sarifRule{
		ID: m.ID, Name: "Misconfiguration", Short: sarifText{m.Title}, Full: sarifText{m.Title}, HelpURI: url,
		Help: sarifText{strings.TrimSpace(help + " " + strings.Join(m.References, ", "))}, Default: sarifDefault{level(m.Severity)},
		Properties: sarifProperties{Tags: []string{"security", "misconfiguration", "container"}, SecuritySeverity: score(m.Severity), Precision: "high"},
	})
	about := &Report{Target: m.Place.Path}
	s.add(rule, level(m.Severity), m.Message+". "+m.Remediation+".", m.Place.Path, about, m.ID, m.Place.Path, m.Resource, m.Message)
	result := s.results[len(s.results)-1]
	result.Locations[0].Physical.Region.StartLine = max(m.Place.Line, 1)
	if m.Resource != "" {
		result.Locations[0].Logical = []sarifLogical{{Printable(m.Resource), "resource"}}
	}
	result.Suppressions = suppressed
	return result
}
