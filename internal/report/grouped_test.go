package report_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// crowded is a host where the same programs lie in many folders.
func crowded() *report.Report {
	r := &report.Report{Schema: 1, Target: "host:", Layers: []report.Layer{{}}, Engines: []string{"ClamAV 1.4.3/27800"}, Looked: []string{"malware", "secrets"},
		Malware: []event.Malware{{Name: "Eicar-Test-Signature", Engine: "clamav", Reason: "It is a known test file.", Severity: event.SeverityCritical, Place: event.Place{Kind: event.PlaceFile, Path: "srv/a.zip"}}}}
	for i := range 5 {
		dir := fmt.Sprintf("home/ann/some/long/way/to/a/project-%d/", i)
		p := event.Package{Name: "golang.org/x/text", Version: "v0.3.0", Ecosystem: "Go", PURL: "pkg:golang/golang.org/x/text@v0.3.0", Path: dir + "bin/tool"}
		r.Packages = append(r.Packages, p)
		r.Findings = append(r.Findings, event.Finding{ID: "GO-2020-0015", Severity: event.SeverityHigh, Package: p, FixedVersion: "v0.3.3", State: event.FixFixed})
		r.Licenses = append(r.Licenses, event.License{Expression: "BSD-3-Clause", Place: event.Place{Kind: event.PlaceFile, Path: dir + "LICENSE"}})
	}
	r.Packages = append(r.Packages, event.Package{Name: "bash", Version: "5.2", Ecosystem: "Debian:12", Path: "var/lib/dpkg/status"})
	return r
}

func table(t *testing.T, r *report.Report, look report.Look) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Table(&out, r, look); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestOneRowForAProgramInManyFiles: with how many there are and the first of
// them, whose end can be read on a narrow terminal too.
func TestOneRowForAProgramInManyFiles(t *testing.T) {
	for _, matched := range []bool{false, true} {
		for _, width := range []int{0, 80, 160} {
			r := crowded()
			if matched {
				r.Intelligence = &report.Intelligence{Version: "1"}
			}
			got := table(t, r, report.Look{Width: width})
			rows := regexp.MustCompile(`(?m)^.*gola.*x/text.*$`).FindAllString(got, -1)
			if len(rows) != 1 || !regexp.MustCompile(` 5 +.*tool$`).MatchString(rows[0]) {
				t.Errorf("matched %v, width %d: %q\n%s", matched, width, rows, got)
			}
			for _, want := range []string{"ClamAV 1.4.3/27800", "Eicar-Test-Signature", "BSD-3-Clause", "LICENCE FILES"} {
				if !strings.Contains(got, want) {
					t.Errorf("width %d: %q is not there:\n%s", width, want, got)
				}
			}
			if width > 0 {
				for line := range strings.Lines(got) {
					if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
						t.Errorf("width %d: %d characters: %s", width, n, line)
					}
				}
			}
		}
	}
	var page bytes.Buffer
	r := crowded()
	r.Intelligence = &report.Intelligence{Version: "1"}
	if err := report.HTML(&page, r); err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{"GO-2020-0015<br>": 1, "golang.org/x/text <span": 1, "in 5 places": 2, "ClamAV 1.4.3/27800": 1, "Eicar-Test-Signature": 1, "found by clamav": 1, "BSD-3-Clause": 1} {
		if got := strings.Count(page.String(), want); got != n {
			t.Errorf("the page has %q %d times, want %d", want, got, n)
		}
	}
}

// TestMissingIntelligenceIsToldOnce: with the way out, at the end, where it is
// read.
func TestMissingIntelligenceIsToldOnce(t *testing.T) {
	r := crowded()
	r.SetMatched(nil, nil, []string{"no intelligence bundle: the vulnerabilities of 6 packages were not judged; run `breakwater intel update`"})
	r.Gaps = append(r.Gaps, "the kernel is in no package")
	var page bytes.Buffer
	if err := report.HTML(&page, r); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{table(t, r, report.Look{}), page.String()} {
		if n := strings.Count(got, "breakwater intel update"); n != 1 || !strings.Contains(got, "the kernel is in no package") {
			t.Errorf("told %d times: %s", n, got)
		}
	}
}

// TestWhatNobodyReadsIsSummedUp: and --all gives all of it.
func TestWhatNobodyReadsIsSummedUp(t *testing.T) {
	r := &report.Report{Schema: 1, Target: "host:", Layers: []report.Layer{{}}}
	for i := range 300 {
		path := fmt.Sprintf("srv/%d/", i)
		r.Packages = append(r.Packages, event.Package{Name: fmt.Sprint("package-", i), Version: "1", Ecosystem: "npm", Path: path + "package.json"})
		r.Secrets = append(r.Secrets, event.Secret{Rule: fmt.Sprint("rule-", i%3), Title: fmt.Sprint("Kind ", i%3), Severity: event.SeverityHigh, Excerpt: "…", Place: event.Place{Kind: event.PlaceFile, Path: path + ".env", Line: 1}})
		r.Gaps = append(r.Gaps, "layer 0: "+path+"x.jar: is not a zip archive")
	}
	r.Gaps = append(r.Gaps, "the kernel is in no package")
	short, all := table(t, r, report.Look{Width: 80}), table(t, r, report.Look{Width: 80, All: true})
	if n := strings.Count(short, "\n"); n > 60 {
		t.Errorf("%d lines", n)
	}
	for _, want := range []string{"300 different packages; --all", "Kind 2", "300 secrets, by kind", "the kernel is in no package", "and 281 more"} {
		if !strings.Contains(strings.Join(strings.Fields(short), " "), want) {
			t.Errorf("%q is not there:\n%s", want, short)
		}
	}
	for _, want := range []string{"package-299", "srv/299/.env:1", "srv/299/x.jar"} {
		if !strings.Contains(all, want) {
			t.Errorf("--all lacks %q", want)
		}
	}
}
