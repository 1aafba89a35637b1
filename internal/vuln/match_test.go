package vuln_test

import (
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func hit(source, id string, aliases ...string) vuln.Hit {
	return vuln.NewHit(vuln.Advisory{ID: id, Aliases: aliases, Source: source}, &vuln.Affected{}, "")
}

func TestMergeByAliases(t *testing.T) {
	findings := vuln.Merge(event.Package{Name: "p"}, []vuln.Hit{
		hit("osv", "NSWG-1", "CVE-2020-2"), hit("osv", "GHSA-b", "NSWG-9"), hit("osv", "PYSEC-1", "GHSA-b", "CVE-2020-2"),
		hit("osv", "GO-7"), hit("osv", "GHSA-z"),
	})
	if len(findings) != 3 {
		t.Fatalf("findings = %+v", findings)
	}
	f := findings[0]
	if f.ID != "CVE-2020-2" || !slices.Equal(f.Aliases, []string{"GHSA-b", "NSWG-1", "NSWG-9", "PYSEC-1"}) {
		t.Errorf("merged = %s %v", f.ID, f.Aliases)
	}
	if findings[1].ID != "GHSA-z" || findings[2].ID != "GO-7" {
		t.Errorf("the others = %s %s", findings[1].ID, findings[2].ID)
	}
}

func TestMergeTrustsTheDistributionFirst(t *testing.T) {
	upstream := vuln.NewHit(vuln.Advisory{ID: "GHSA-1", Aliases: []string{"CVE-1"}, Source: "osv", Title: "from upstream",
		Severity: event.SeverityCritical, SeveritySource: "ghsa", CVSS: "CVSS:3.1/x"}, &vuln.Affected{}, "9.9")
	distro := vuln.NewHit(vuln.Advisory{ID: "CVE-1", Source: "debian"},
		&vuln.Affected{State: event.FixWontFix, Severity: event.SeverityLow}, "")
	f := vuln.Merge(event.Package{}, []vuln.Hit{upstream, distro})[0]
	if f.State != event.FixWontFix || f.FixedVersion != "" || f.Severity != event.SeverityLow || f.SeveritySource != "debian" || f.Source != "debian" {
		t.Errorf("finding = %+v", f)
	}
	if f.Title != "from upstream" || f.CVSS != "CVSS:3.1/x" {
		t.Errorf("what the distribution leaves open is not filled in: %+v", f)
	}
}

func TestMergeTakesWordsBeforeScores(t *testing.T) {
	computed := vuln.NewHit(vuln.Advisory{ID: "GHSA-1", Source: "osv", Severity: event.SeverityCritical, SeveritySource: "cvss-v3"}, &vuln.Affected{}, "")
	word := vuln.NewHit(vuln.Advisory{ID: "X-1", Aliases: []string{"GHSA-1"}, Source: "osv", Severity: event.SeverityMedium, SeveritySource: "osv"}, &vuln.Affected{}, "")
	f := vuln.Merge(event.Package{}, []vuln.Hit{computed, word})[0]
	if f.Severity != event.SeverityMedium || f.SeveritySource != "osv" {
		t.Errorf("severity = %s by %s", f.Severity, f.SeveritySource)
	}
}

// The vectors and scores are examples of FIRST's CVSS documents and of NVD.
func TestFromCVSS(t *testing.T) {
	for vector, want := range map[string]string{
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H":                    "critical cvss-v3", // 9.8
		"CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N":                    "low cvss-v3",      // 3.1
		"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H":                    "high cvss-v3",     // 7.8
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N":                    "negligible cvss-v3",
		"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N": "critical cvss-v4", // 9.3
		"AV:N/AC:L/Au:N/C:P/I:P/A:P":                                      "high cvss-v2",     // 7.5
		"CVSS:3.1/AV:N":                                                   " ",
		"9.8":                                                             " ",
		"":                                                                " ",
	} {
		sev, source, ok := vuln.FromCVSS(vector)
		if got := string(sev) + " " + source; got != want || ok != (want != " ") {
			t.Errorf("%s: %q, want %q", vector, got, want)
		}
	}
}

func FuzzFromCVSS(f *testing.F) {
	f.Add("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")
	f.Add("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N")
	f.Add("AV:N/AC:L/Au:N/C:P/I:P/A:P")
	f.Fuzz(func(t *testing.T, vector string) {
		if sev, _, ok := vuln.FromCVSS(vector); ok && sev.Rank() <= event.SeverityUnknown.Rank() {
			t.Errorf("%q has the severity %q", vector, sev)
		}
	})
}
