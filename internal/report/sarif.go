package report

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The part of SARIF 2.1.0 (OASIS, sarif-v2.1.0-os) that GitHub's code scanning
// reads. Own structs: the format's Go libraries write null for lists that are
// absent, which the schema forbids.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Automation  sarifAutomation   `json:"automationDetails"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		ColumnKind  string            `json:"columnKind"`
		Properties  map[string]string `json:"properties,omitempty"`
	}
	sarifAutomation struct {
		ID string `json:"id"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		URI     string      `json:"informationUri"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifRule struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Short      sarifText       `json:"shortDescription"`
		Full       sarifText       `json:"fullDescription"`
		HelpURI    string          `json:"helpUri,omitempty"`
		Help       sarifText       `json:"help"`
		Default    sarifDefault    `json:"defaultConfiguration"`
		Properties sarifProperties `json:"properties"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifProperties struct {
		Tags []string `json:"tags"`
		// SecuritySeverity is a score from 0 to 10 as text; GitHub sorts by it.
		SecuritySeverity string `json:"security-severity,omitempty"`
		Precision        string `json:"precision,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"

// What GitHub's code scanning takes of one run (its documentation, "SARIF
// support for code scanning": limits). It shows the 5,000 gravest results.
const (
	sarifMaxResults = 25_000
	sarifMaxZipped  = 10_000_000 // bytes of the file, gzipped
)

// SARIF writes everything that was found, and the policy violations, as SARIF
// 2.1.0. A result lies at the file that is its evidence, relative to the image's
// root; its fingerprint names what was found and where, so it stays the same
// over rebuilds of the image. What is excluded or accepted is suppressed. The
// first to look at come first; when GitHub's limits are reached the last are
// left out, and a notification says how many.
func SARIF(w io.Writer, r *Report) error {
	for limit := sarifMaxResults; ; limit /= 2 {
		var out bytes.Buffer
		if err := indented(&out, sarifOf(r, limit)); err != nil {
			return err
		}
		if limit < 2 || zipped(out.Bytes()) <= sarifMaxZipped {
			_, err := w.Write(out.Bytes())
			return err
		}
	}
}

// zipped is how large GitHub finds data. What is small needs no try.
func zipped(data []byte) int {
	if len(data) <= sarifMaxZipped {
		return len(data)
	}
	var out countWriter
	z := gzip.NewWriter(&out)
	_, err := z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		return len(data)
	}
	return int(out)
}

type countWriter int

func (n *countWriter) Write(p []byte) (int, error) {
	*n += countWriter(len(p))
	return len(p), nil
}

func sarifOf(r *Report, limit int) sarifLog {
	s := &sarifBuilder{index: map[string]int{}, limit: limit}
	if r.Verdict != nil {
		for _, v := range r.Verdict.Violations {
			s.violation(r, &v)
		}
	}
	s.content(r)
	for _, f := range byRank(r.Findings) {
		s.finding(r, &f, "")
	}
	for _, f := range byRank(r.Excluded) {
		s.finding(r, &f, whyExcluded(&f))
	}
	name, version, _ := strings.Cut(r.Tool, " ")
	told := notifications(r)
	if s.left > 0 {
		told = append(told, sarifNotification{"warning", sarifText{fmt.Sprintf("%d results are left out: code scanning takes no more than %d", s.left, limit)}})
	}
	return sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{{
		Tool:        sarifTool{sarifDriver{Name: cmp.Or(name, "breakwater"), Version: version, URI: "https://github.com/breakwater-sec/breakwater", Rules: orEmpty(s.rules)}},
		Automation:  sarifAutomation{"breakwater/scan/" + Printable(r.name())},
		Invocations: []sarifInvocation{{Successful: true, Notifications: told}},
		Results:     orEmpty(s.results),
		ColumnKind:  "utf16CodeUnits",
		Properties:  map[string]string{"imageDigest": r.Image.Digest, "platform": r.Image.Platform},
	}}}
}

func notifications(r *Report) (out []sarifNotification) {
	for _, g := range r.Gaps {
		out = append(out, sarifNotification{"warning", sarifText{Printable(g)}})
	}
	for _, n := range r.Notes {
		out = append(out, sarifNotification{"note", sarifText{Printable(n)}})
	}
	return out
}

type sarifBuilder struct {
	rules   []sarifRule
	index   map[string]int // rule id → place in rules
	results []sarifResult
	limit   int // of results
	left    int // out
}

func (s *sarifBuilder) rule(r sarifRule) int {
	if i, ok := s.index[r.ID]; ok {
		return i
	}
	s.index[r.ID] = len(s.rules)
	s.rules = append(s.rules, r)
	return len(s.rules) - 1
}

func (s *sarifBuilder) finding(r *Report, f *event.Finding, excluded string) {
	if s.full() {
		return
	}
	title := Printable(cmp.Or(f.Title, f.ID))
	i := s.rule(sarifRule{
		ID: Printable(f.ID), Name: "KnownVulnerability", Short: sarifText{Printable(f.ID)}, Full: sarifText{title},
		HelpURI: webURL(f.URL), Help: sarifText{strings.TrimSpace(title + " " + webURL(f.URL))}, Default: sarifDefault{level(f.Severity)},
		Properties: sarifProperties{Tags: []string{"security", "vulnerability", "container"}, SecuritySeverity: score(f.Severity), Precision: "very-high"},
	})
	fix := "there is no fixed version yet"
	if f.FixedVersion != "" {
		fix = "fixed in " + f.FixedVersion
	}
	text := fmt.Sprintf("%s %s has %s, which %s: %s. Layer %s.", f.Package.Name, f.Package.Version, f.ID, Reason(f), fix, layerOf(&f.Package))
	s.add(i, level(f.Severity), text, f.Package.Path, r, f.ID, f.Package.Name, f.Package.Path)
	s.suppress(excluded)
}

// full counts a result that has no room.
func (s *sarifBuilder) full() bool {
	if len(s.results) < s.limit {
		return false
	}
	s.left++
	return true
}

// suppress marks the last result as one that does not count.
func (s *sarifBuilder) suppress(why string) {
	if why != "" {
		s.results[len(s.results)-1].Suppressions = []sarifSuppression{{"external", Printable(why)}}
	}
}

func (s *sarifBuilder) violation(r *Report, v *event.Violation) {
	if s.full() {
		return
	}
	id := "policy/" + Printable(v.Policy) + "/" + Printable(v.Rule)
	lvl := "error"
	if v.Audit {
		lvl = "note"
	}
	i := s.rule(sarifRule{
		ID: id, Name: "PolicyViolation", Short: sarifText{Printable(v.Policy + ": " + v.Rule)}, Full: sarifText{Printable(v.Message)},
		Help: sarifText{Printable(cmp.Or(v.Remediation, v.Message))}, Default: sarifDefault{"error"},
		Properties: sarifProperties{Tags: []string{"security", "policy", "container"}},
	})
	text := v.Message
	if v.Remediation != "" {
		text += " (" + v.Remediation + ")"
	}
	path, line := violationPlace(v.Source)
	s.add(i, lvl, text, path, r, v.Policy, v.Rule, v.Message)
	s.results[len(s.results)-1].Locations[0].Physical.Region.StartLine = line
}

// violationPlace splits "file:line"; a rule without a place is the image's
// Dockerfile's matter.
func violationPlace(source string) (path string, line int) {
	i := strings.LastIndexByte(source, ':')
	if i < 0 {
		return "Dockerfile", 1
	}
	if _, err := fmt.Sscanf(source[i+1:], "%d", &line); err != nil || line < 1 {
		return source, 1
	}
	return source[:i], line
}

func (s *sarifBuilder) add(rule int, lvl, text, path string, r *Report, identity ...string) {
	sum := sha256.Sum256([]byte(strings.Join(identity, "\x00")))
	s.results = append(s.results, sarifResult{
		RuleID: s.rules[rule].ID, RuleIndex: rule, Level: lvl, Message: sarifText{Printable(text)},
		Locations: []sarifLocation{{
			Physical: sarifPhysical{sarifArtifact{uri(path)}, sarifRegion{1}},
			Logical:  []sarifLogical{{Printable(r.name() + ":/" + path), "resource"}},
		}},
		Fingerprints: map[string]string{"breakwater/v1": hex.EncodeToString(sum[:16])},
	})
}

// uri is a relative reference: GitHub shows no result without one.
func uri(path string) string {
	u := url.URL{Path: strings.TrimPrefix(cmp.Or(path, "Dockerfile"), "/")}
	return u.String()
}

func level(s event.Severity) string {
	switch s {
	case event.SeverityCritical, event.SeverityHigh:
		return "error"
	case event.SeverityMedium:
		return "warning"
	}
	return "note"
}

// score places a severity in the middle of its band of CVSS 3 (specification
// §5): the vendor's word rules, not the vector.
func score(s event.Severity) string {
	switch s {
	case event.SeverityCritical:
		return "9.5"
	case event.SeverityHigh:
		return "8.0"
	case event.SeverityMedium:
		return "5.5"
	case event.SeverityLow:
		return "2.0"
	case event.SeverityNegligible:
		return "0.1"
	}
	return ""
}
