package report

import (
	"encoding/xml"
	"fmt"
	"io"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The form of JUnit's XML that Jenkins, GitLab and GitHub's actions read
// (jenkins-junit.xsd).
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string          `xml:"name,attr"`
		Tests     int             `xml:"tests,attr"`
		Failures  int             `xml:"failures,attr"`
		Errors    int             `xml:"errors,attr"`
		Skipped   int             `xml:"skipped,attr"`
		Time      string          `xml:"time,attr"`
		Timestamp string          `xml:"timestamp,attr,omitempty"`
		Props     []junitProperty `xml:"properties>property,omitempty"`
		Cases     []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Skipped *junitSkipped `xml:"skipped"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	junitSkipped struct {
		Message string `xml:"message,attr"`
	}
)

// JUnit writes the report as JUnit XML. When a policy was asked, it decides:
// each violation that enforces is a failed test, and what was found is told by
// tests that pass. Without a policy every finding is a failed test. What is
// excluded, or only recorded, is skipped.
func JUnit(w io.Writer, r *Report) error {
	judged := r.Verdict != nil && len(r.Verdict.Policies) > 0
	doc := junitSuites{Name: "breakwater scan " + Printable(r.name())}
	add := func(name string, cases []junitCase) {
		s := junitSuite{Name: name, Tests: len(cases), Time: "0", Cases: cases}
		if !r.Time.IsZero() {
			s.Timestamp = r.Time.UTC().Format("2006-01-02T15:04:05")
		}
		for _, c := range cases {
			if c.Failure != nil {
				s.Failures++
			}
			if c.Skipped != nil {
				s.Skipped++
			}
		}
		doc.Tests, doc.Failures, doc.Suites = doc.Tests+s.Tests, doc.Failures+s.Failures, append(doc.Suites, s)
	}
	if judged {
		add("policy", junitPolicy(r.Verdict))
	}
	for _, kind := range r.issues() {
		var cases []junitCase
		for _, x := range kind.issues {
			cases = append(cases, x.junit(judged))
		}
		if len(cases) > 0 {
			add(kind.name, cases)
		}
	}
	if len(doc.Suites) == 0 {
		add("vulnerabilities", []junitCase{{Class: Printable(r.name()), Name: "nothing was found", Time: "0"}})
	}
	last := &doc.Suites[0]
	for _, g := range r.Gaps {
		last.Props = append(last.Props, junitProperty{"not judged", Printable(g)})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitPolicy(v *event.Verdict) []junitCase {
	var cases []junitCase
	violated := map[string]bool{}
	for _, x := range v.Violations {
		violated[x.Policy] = true
		c := junitCase{Class: "policy." + Printable(x.Policy), Name: Printable(x.Rule), Time: "0"}
		text := Printable(joined("\n", x.Message, x.Remediation, x.Source))
		if x.Audit {
			c.Skipped = &junitSkipped{"recorded only: " + Printable(x.Message)}
		} else {
			c.Failure = &junitFailure{Printable(x.Message), "policy", text}
		}
		cases = append(cases, c)
	}
	for _, name := range v.Policies {
		if !violated[name] {
			cases = append(cases, junitCase{Class: "policy." + Printable(name), Name: "holds", Time: "0"})
		}
	}
	return cases
}

func (x *issue) junit(judged bool) junitCase {
	c := junitCase{Class: Printable(x.where), Name: Printable(fmt.Sprintf("[%s] %s", x.severity, x.id)), Time: "0"}
	text := Printable(joined("\n", x.title, x.fix, x.url))
	switch {
	case x.excluded != "":
		c.Skipped = &junitSkipped{Printable(x.excluded)}
	case judged:
		c.Out = text
	default:
		c.Failure = &junitFailure{Printable(x.title), string(x.severity), text}
	}
	return c
}
