package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
	"github.com/breakwater-sec/breakwater/internal/inventory/sbom"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// TestDocumentsComeBack reads our own bills of materials as `scan sbom:` does:
// the packages are the same.
func TestDocumentsComeBack(t *testing.T) {
	r := sample()
	r.Packages = r.Packages[:2]
	r.Packages[0].Source, r.Packages[0].SourceVersion = "glibc", "2.36-9"
	r.Packages = append(r.Packages,
		event.Package{Name: "lodash", Version: "4.17.15", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.15", Path: "app/package-lock.json", Layer: "sha256:bb", LayerIndex: 1, Locked: true},
		event.Package{Name: "requests", Version: "2.31.0", Ecosystem: "PyPI", PURL: "pkg:pypi/requests@2.31.0", Path: "usr/lib/python3/dist-packages/requests", Layer: "sha256:aa", Owner: "pkg:deb/debian/python3-requests@2.31.0-1", Licenses: []string{"Apache License, as somebody wrote it"}})
	for name, write := range map[string]func(io.Writer, *report.Report) error{"CycloneDX": report.CycloneDX, "SPDX": report.SPDX} {
		var out bytes.Buffer
		if err := write(&out, r); err != nil {
			t.Fatal(err)
		}
		doc, err := sbom.Parse(out.Bytes(), drivers.All(inventory.Key{}))
		if err != nil || len(doc.Gaps) > 0 || doc.Distro.ID != "debian" || doc.Distro.Version != "12" {
			t.Fatalf("%s: %v %+v", name, err, doc)
		}
		if len(doc.Packages) != len(r.Packages) {
			t.Fatalf("%s: %d packages", name, len(doc.Packages))
		}
		for i, got := range doc.Packages {
			want := r.Packages[i]
			if name == "SPDX" { // which has no room for it
				want.Step = ""
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
			}
		}
	}
}

func write(t *testing.T, f func(io.Writer, *report.Report) error, r *report.Report) map[string]any {
	t.Helper()
	var out bytes.Buffer
	if err := f(&out, r); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "null") {
		t.Error("holds a null")
	}
	var doc map[string]any
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func objects(v any) (out []map[string]any) {
	list, _ := v.([]any)
	for _, x := range list {
		out = append(out, x.(map[string]any))
	}
	return out
}

// TestCycloneDXRules: what bom-1.6.schema.json demands beyond types, and that
// every reference leads somewhere.
func TestCycloneDXRules(t *testing.T) {
	doc := write(t, report.CycloneDX, sample())
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(doc["serialNumber"].(string)) {
		t.Errorf("serial number %v", doc["serialNumber"])
	}
	refs := map[string]bool{"image": true}
	for _, c := range objects(doc["components"]) {
		ref := c["bom-ref"].(string)
		if refs[ref] || ref == "" || c["name"] == "" || !slices.Contains([]string{"library", "operating-system"}, c["type"].(string)) {
			t.Errorf("component %v", c)
		}
		refs[ref] = true
	}
	for _, d := range objects(doc["dependencies"]) {
		for _, on := range d["dependsOn"].([]any) {
			if !refs[on.(string)] {
				t.Errorf("depends on %v, which is not there", on)
			}
		}
	}
	states := map[string]bool{}
	for _, v := range objects(doc["vulnerabilities"]) {
		for _, a := range objects(v["affects"]) {
			if !refs[a["ref"].(string)] {
				t.Errorf("%v affects %v, which is not there", v["id"], a["ref"])
			}
		}
		if a, ok := v["analysis"].(map[string]any); ok && a["state"] != nil {
			states[fmt.Sprint(v["id"], " ", a["state"], " ", a["justification"])] = true
		}
	}
	if !states["CVE-2026-0004 not_affected code_not_reachable"] || len(states) != 1 {
		t.Errorf("VEX states %v", states)
	}
}

// TestSPDXRules: annex D and chapters 6 to 11 of SPDX 2.3.
func TestSPDXRules(t *testing.T) {
	r := sample()
	r.Packages[0].Licenses = []string{"GPL-2.0-or-later WITH Classpath-exception-2.0 OR (MIT AND BSD-3-Clause)", "MIT"}
	r.Packages[2].Licenses = []string{"See LICENSE", "MIT OR", "AND", "()"}
	doc := write(t, report.SPDX, r)
	ids, refs := map[string]bool{}, map[string]bool{}
	for _, e := range objects(doc["hasExtractedLicensingInfos"]) {
		refs[e["licenseId"].(string)] = true
	}
	declared := []string{}
	for _, p := range objects(doc["packages"]) {
		id := p["SPDXID"].(string)
		if ids[id] || !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(id) || p["downloadLocation"] == "" || p["filesAnalyzed"] != false {
			t.Errorf("package %v", p)
		}
		ids[id] = true
		declared = append(declared, p["licenseDeclared"].(string))
		for _, word := range strings.Fields(p["licenseDeclared"].(string)) {
			if strings.HasPrefix(word, "LicenseRef-") && !refs[word] {
				t.Errorf("%s is not told", word)
			}
		}
	}
	if len(refs) != 4 || !slices.Contains(declared, "(GPL-2.0-or-later WITH Classpath-exception-2.0 OR (MIT AND BSD-3-Clause)) AND MIT") {
		t.Errorf("licences %q, told %v", declared, refs)
	}
	for _, x := range objects(doc["relationships"]) {
		if !ids[x["relatedSpdxElement"].(string)] {
			t.Errorf("relationship %v", x)
		}
	}
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`).MatchString(doc["creationInfo"].(map[string]any)["created"].(string)) {
		t.Errorf("creation %v", doc["creationInfo"])
	}
}

// TestGitLabRules: what its schema 15.0.7 demands.
func TestGitLabRules(t *testing.T) {
	r := sample()
	r.Findings[1].Title = strings.Repeat("ä", 400)
	doc := write(t, report.GitLab, r)
	all := objects(doc["vulnerabilities"])
	if doc["version"] != "15.0.7" || len(all) != 3 {
		t.Fatalf("version %v, %d vulnerabilities", doc["version"], len(all))
	}
	seen := map[string]bool{}
	for _, v := range all {
		at := v["location"].(map[string]any)
		if at["image"] == "" || at["operating_system"] != "debian:12" || at["dependency"] == nil {
			t.Errorf("location %v", at)
		}
		if id := v["id"].(string); seen[id] || len([]rune(v["name"].(string))) > 255 || len(objects(v["identifiers"])) == 0 {
			t.Errorf("vulnerability %v", v)
		} else {
			seen[id] = true
		}
		if !slices.Contains([]string{"Info", "Unknown", "Low", "Medium", "High", "Critical"}, v["severity"].(string)) {
			t.Errorf("severity %v", v["severity"])
		}
	}
	scan := doc["scan"].(map[string]any)
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`).MatchString(scan["start_time"].(string)) || len(objects(scan["messages"])) != 4 {
		t.Errorf("scan %v", scan)
	}
}

type junit struct {
	Failures int `xml:"failures,attr"`
	Suites   []struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Cases    []struct {
			Failure *struct{} `xml:"failure"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestJUnitFailsWhatCounts: with a policy its violations alone, without one
// everything that is found.
func TestJUnitFailsWhatCounts(t *testing.T) {
	judged, alone := sample(), sample()
	alone.Verdict = nil
	for name, c := range map[string]struct {
		r    *report.Report
		want int
	}{"with a policy": {judged, 1}, "without": {alone, 7}} {
		var out bytes.Buffer
		if err := report.JUnit(&out, c.r); err != nil {
			t.Fatal(err)
		}
		var doc junit
		if err := xml.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		failed, skipped := 0, 0
		for _, s := range doc.Suites {
			if s.Tests != len(s.Cases) {
				t.Errorf("%s: %d tests, says %d", s.Name, len(s.Cases), s.Tests)
			}
			for _, x := range s.Cases {
				if x.Failure != nil {
					failed++
				}
				if x.Skipped != nil {
					skipped++
				}
			}
		}
		if failed != c.want || doc.Failures != c.want || skipped < 2 {
			t.Errorf("%s: %d failures, says %d, %d skipped", name, failed, doc.Failures, skipped)
		}
	}
}

// TestSARIFLimits: the gravest stay, and a notification counts what is left out.
func TestSARIFLimits(t *testing.T) {
	r := sample()
	proto := r.Findings[2]
	r.Verdict, r.Malware, r.Secrets, r.Misconfigurations, r.Signatures, r.Excluded, r.Accepted = nil, nil, nil, nil, nil, nil, nil
	for i := range 25_100 {
		f := proto
		f.ID = fmt.Sprintf("CVE-2025-%d", i)
		r.Findings = append(r.Findings, f)
	}
	var out bytes.Buffer
	if err := report.SARIF(&out, r); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), `"ruleIndex"`); n != 25_000 {
		t.Errorf("%d results", n)
	}
	if !strings.Contains(out.String(), "103 results are left out") || !strings.Contains(out.String(), "CVE-2026-0001") {
		t.Error("does not say what is left out, or leaves out the first")
	}
}

func TestRank(t *testing.T) {
	f := func(id string, change func(*event.Finding)) event.Finding {
		x := event.Finding{ID: id, Severity: event.SeverityMedium, State: event.FixAffected}
		change(&x)
		return x
	}
	want := []event.Finding{
		f("exploited", func(x *event.Finding) { x.KnownExploited, x.Severity = true, event.SeverityLow }),
		f("likely", func(x *event.Finding) { x.EPSS = 0.5 }),
		f("critical", func(x *event.Finding) { x.Severity = event.SeverityCritical }),
		f("fixable", func(x *event.Finding) { x.FixedVersion = "2" }),
		f("less so", func(x *event.Finding) { x.EPSS = 0.05 }),
		f("plain", func(*event.Finding) {}),
		f("locked", func(x *event.Finding) { x.Package.Locked, x.EPSS = true, 0.09 }),
	}
	for i := range want[1:] {
		if report.Order(&want[i], &want[i+1]) >= 0 {
			t.Errorf("%s does not stand before %s", want[i].ID, want[i+1].ID)
		}
	}
	for i, sentence := range []string{
		"is known to be exploited, and has no fix yet", "is exploited within 30 days with a probability of 50% (EPSS), and has no fix yet",
		"is critical, and has no fix yet", "is medium, and has a fix", "is medium, exploited within 30 days with 5.0% (EPSS), and has no fix yet",
	} {
		if got := report.Reason(&want[i]); got != sentence {
			t.Errorf("%s: %q", want[i].ID, got)
		}
	}
}

func TestCompare(t *testing.T) {
	old, now := sample(), sample()
	old.Verdict = &event.Verdict{Allowed: true}
	now.Packages[1].Version = "4.17.21"
	now.Packages = append(now.Packages[1:], event.Package{Name: "left-pad", Version: "1.0.0", Ecosystem: "npm"})
	now.Findings = append(now.Findings[:1:1], event.Finding{ID: "CVE-2026-0009", Severity: event.SeverityHigh, Package: now.Packages[1]})
	d := report.Compare(old, now)
	if d.Other != "app:1" || d.Verdict != "was allowed, is refused" || len(d.Added) != 1 || d.Added[0].Name != "left-pad" ||
		len(d.Removed) != 1 || d.Removed[0].Name != "libc6" || len(d.Changed) != 1 || d.Changed[0] != (report.Change{Name: "lodash", Ecosystem: "npm", From: "4.17.15", To: "4.17.21"}) ||
		len(d.New) != 1 || d.New[0].ID != "CVE-2026-0009" || len(d.Gone) != 2 {
		t.Errorf("got %+v", d)
	}
	same := report.Compare(old, sample())
	if len(same.Added)+len(same.Removed)+len(same.Changed)+len(same.New)+len(same.Gone) != 0 {
		t.Errorf("the same differs: %+v", same)
	}
	now.Compared = d
	var out bytes.Buffer
	if err := report.Table(&out, now, report.Look{}); err != nil || !strings.Contains(out.String(), "vulnerabilities: 1 new (1 high), 2 gone\n      + CVE-2026-0009") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestPageIsInert: whatever an image calls its things, the page runs and loads
// nothing.
func TestPageIsInert(t *testing.T) {
	r := sample()
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	r.Target, r.Layers[0].Step, r.Gaps[0], r.Packages[0].Name = evil, evil, evil, evil
	f := &r.Findings[0]
	f.ID, f.Title, f.URL, f.Package.Name = evil, evil, "javascript:alert(1)", evil
	r.Advice = &report.Advice{Updates: []report.Update{{Packages: []string{evil}, Command: evil, Step: evil}}}
	var out bytes.Buffer
	if err := report.HTML(&out, r); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "javascript:", "src=\"", "url(", "@import", "<link"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("holds %s", bad)
		}
	}
}
