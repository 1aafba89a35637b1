package vuln_test

import (
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func TestSubjectNames(t *testing.T) {
	lib := event.Package{Name: "libssl3", Version: "3.0.11-1", Source: "openssl", SourceVersion: "3.0.11-1~src"}
	for ecosystem, want := range map[string][]string{
		"Debian:12":    {"openssl 3.0.11-1~src"},
		"Alpine:v3.20": {"openssl 3.0.11-1~src"},
		"Red Hat:9":    {"libssl3 3.0.11-1", "openssl 3.0.11-1~src"},
		"SUSE:15.5":    {"libssl3 3.0.11-1", "openssl 3.0.11-1~src"},
		"npm":          {"libssl3 3.0.11-1"},
	} {
		var got []string
		for _, l := range vuln.SubjectOf(&lib, ecosystem).Lookups() {
			got = append(got, l.Name+" "+l.Version)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: asks for %q, want %q", ecosystem, got, want)
		}
	}
	same := event.Package{Name: "bash", Version: "5.1", Source: "bash"}
	if got := vuln.SubjectOf(&same, "Rocky Linux:9").Lookups(); len(got) != 1 {
		t.Errorf("a source of the same name is asked for twice: %v", got)
	}
}

func TestMeans(t *testing.T) {
	const modular, plain = "1:16.20.2-8.module+el8.9.0+19519+e25b965a", "1:16.20.2-8.el9"
	for _, c := range []struct {
		name, ecosystem, version, module string
		source                           bool // asked by source name, which differs
		stream, fixed                    string
		want                             bool
	}{
		{"plain build, plain fix", "AlmaLinux:9", plain, "", false, "", "1:16.20.3-1.el9", true},
		{"plain build, fix of a module", "AlmaLinux:8", plain, "", false, "", "1:18.1.0-1.module_el8.9.0+1", false},
		{"modular build, plain fix", "AlmaLinux:8", modular, "nodejs:16", false, "", "1:16.20.3-1.el8", false},
		{"modular build, fix of a module", "AlmaLinux:8", modular, "nodejs:16", false, "", "1:16.20.3-1.module_el8.9.0+1", true},
		{"its own stream", "Red Hat:8", modular, "nodejs:16", false, "nodejs:16", "1:16.20.3-1.module+el8", true},
		{"another stream", "Red Hat:8", modular, "nodejs:16", false, "nodejs:18", "1:18.1.0-1.module+el8", false},
		{"a stream, and a database without labels", "Red Hat:8", modular, "", false, "nodejs:18", "1:18.1.0-1.module+el8", true},
		{"a stream and a plain build", "Red Hat:8", plain, "", false, "nodejs:16", "", false},
		{"Red Hat's fix by source name", "Red Hat:9", plain, "", true, "", "1:16.20.3-1.el9", false},
		{"Red Hat's component", "Red Hat:9", plain, "", true, "", "", true},
		{"SUSE's fix by source name", "SUSE:15.5", plain, "", true, "", "16.20.3-1", true},
		{"no RPM at all", "Debian:12", "1.module", "", false, "", "2", true},
	} {
		p := event.Package{Name: "npm", Version: c.version, Module: c.module}
		if c.source {
			p.Source, p.SourceVersion = "nodejs", c.version
		}
		s := vuln.SubjectOf(&p, c.ecosystem)
		lookups := s.Lookups()
		if got := s.Means(lookups[len(lookups)-1], &vuln.Affected{Module: c.stream}, c.fixed); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	component := event.Package{Name: "openssl-libs", Version: "3.0-1.el9", Source: "openssl", SourceVersion: "3.0-1.el9"}
	s := vuln.SubjectOf(&component, "Red Hat:9")
	if s.Means(s.Lookups()[0], &vuln.Affected{}, "") {
		t.Error("a component of the binary package's name is taken for the package")
	}
}

func TestRate(t *testing.T) {
	const nvd = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" // 9.8
	f := event.Finding{Severity: event.SeverityUnknown}
	vuln.Rate(&f, []event.Rating{
		{Source: "osv", Severity: event.SeverityLow}, {Source: "ghsa", Severity: event.SeverityMedium},
		{Source: "nvd", Severity: event.SeverityCritical, Vector: nvd}, {Source: "ghsa", Severity: event.SeverityMedium},
		{Source: "cvss-v3", Severity: event.SeverityHigh, Vector: "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"},
		{Source: "empty", Severity: event.SeverityUnknown},
	})
	if f.Severity != event.SeverityCritical || f.SeveritySource != "nvd" || f.CVSS != nvd {
		t.Errorf("severity %s by %s (%s)", f.Severity, f.SeveritySource, f.CVSS)
	}
	var sources []string
	for _, r := range f.Ratings {
		sources = append(sources, r.Source)
		if r.Source == "nvd" && r.Score != 9.8 || r.Source == "cvss-v3" && r.Score != 7.8 {
			t.Errorf("score %v of %s", r.Score, r.Source)
		}
	}
	if want := []string{"cvss-v3", "ghsa", "nvd", "osv"}; !slices.Equal(sources, want) {
		t.Errorf("ratings %q, want %q", sources, want)
	}
	vendor := event.Finding{Severity: event.SeverityLow, SeveritySource: "debian"}
	if vuln.Rate(&vendor, f.Ratings); vendor.Severity != event.SeverityLow || vendor.SeveritySource != "debian" || len(vendor.Ratings) != 4 {
		t.Errorf("the distribution's word was overruled: %+v", vendor)
	}
}

func TestMergeKeepsEveryRating(t *testing.T) {
	findings := vuln.Merge(event.Package{}, []vuln.Hit{
		vuln.NewHit(vuln.Advisory{ID: "CVE-1", Source: "debian"}, &vuln.Affected{Severity: event.SeverityLow}, ""),
		vuln.NewHit(vuln.Advisory{ID: "GHSA-1", Aliases: []string{"CVE-1"}, Source: "osv", Severity: event.SeverityHigh, SeveritySource: "ghsa"}, &vuln.Affected{}, ""),
	})
	if len(findings) != 1 || len(findings[0].Ratings) != 2 || findings[0].Severity != event.SeverityLow {
		t.Errorf("findings %+v", findings)
	}
}
