package advice_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/advice"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func finding(id string, p event.Package, fixed string) event.Finding {
	return event.Finding{ID: id, Severity: event.SeverityHigh, Package: p, FixedVersion: fixed}
}

func sample() *report.Report {
	ssl := event.Package{Name: "libssl3", Version: "3.0.9-1", Source: "openssl", Ecosystem: "Debian:12"}
	cli := event.Package{Name: "openssl", Version: "3.0.9-1", Ecosystem: "Debian:12"}
	perl := event.Package{Name: "perl-base", Version: "5.36.0-7", Source: "perl", Ecosystem: "Debian:12"}
	lodash := event.Package{Name: "lodash", Version: "4.17.15", Ecosystem: "npm", LayerIndex: 1, Step: "RUN npm ci"}
	r := &report.Report{
		Layers: []report.Layer{{Base: true}, {Step: "RUN npm ci"}},
		Findings: []event.Finding{
			finding("CVE-1", ssl, "3.0.11-1~deb12u2"), finding("CVE-1", cli, "3.0.11-1~deb12u2"), finding("CVE-2", ssl, "3.0.9-1+deb12u1"),
			finding("CVE-3", perl, ""), finding("CVE-4", lodash, "4.17.19"), finding("CVE-5", lodash, "4.17.21"), finding("CVE-6", lodash, "4.17.9"),
		},
	}
	r.Config.Labels = map[string]string{"org.opencontainers.image.base.name": "docker.io/library/debian:12.5"}
	return r
}

func TestAdvice(t *testing.T) {
	a := advice.Of(sample())
	if a.Unfixed != 1 || a.Base == nil || *a.Base != (report.BaseAdvice{Image: "docker.io/library/debian:12.5", Layers: 1, Findings: 4, Fixable: 3}) {
		t.Errorf("unfixed %d, base %+v", a.Unfixed, a.Base)
	}
	var got []string
	for _, u := range a.Updates {
		got = append(got, strings.Join(append(u.Findings, u.Command), " "))
	}
	want := []string{
		"CVE-1 CVE-1 CVE-2 apt-get install -y --only-upgrade libssl3=3.0.11-1~deb12u2 openssl=3.0.11-1~deb12u2",
		"CVE-4 CVE-5 CVE-6 npm install lodash@4.17.21",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if advice.Of(&report.Report{}) != nil {
		t.Error("advises on nothing")
	}
}

// TestExploitedFirst: one exploited finding counts more than three others.
func TestExploitedFirst(t *testing.T) {
	r := sample()
	r.Findings = append(r.Findings, event.Finding{ID: "CVE-7", Severity: event.SeverityLow, KnownExploited: true, FixedVersion: "2.0",
		Package: event.Package{Name: "a", Version: "1.0", Ecosystem: "PyPI", LayerIndex: 1}})
	if u := advice.Of(r).Updates[0]; u.Command != "pip install 'a>=2.0'" || u.Exploited != 1 {
		t.Errorf("got %+v", u)
	}
}

func TestTryBase(t *testing.T) {
	r, newer := sample(), sample()
	r.Advice = advice.Of(r)
	newer.Target = "debian:12.9"
	newer.Findings = []event.Finding{finding("CVE-3", newer.Findings[3].Package, ""), finding("CVE-9", newer.Findings[3].Package, "")}
	advice.Try(r, newer)
	if b := r.Advice.Base; b.Candidate != "debian:12.9" || b.Gone != 3 || b.New != 1 {
		t.Errorf("got %+v", b)
	}
}

// TestCommands: one of each manager.
func TestCommands(t *testing.T) {
	for ecosystem, want := range map[string]string{
		"Debian:12": "apt-get install -y --only-upgrade a=2-1", "Ubuntu:22.04:LTS": "apt-get install -y --only-upgrade a=2-1",
		"Alpine:v3.19": "apk add --no-cache 'a>=2-1'", "Wolfi": "apk add --no-cache 'a>=2-1'", "Red Hat:9": "dnf update -y a-2-1",
		"Photon OS:4.0": "tdnf update -y a", "SUSE:Linux Enterprise Server 15": "zypper --non-interactive install 'a>=2-1'",
		"npm": "npm install a@2-1", "PyPI": "pip install 'a>=2-1'", "Go": "go get a@v2-1", "Maven": "set a to 2-1 in pom.xml or build.gradle",
		"RubyGems": "bundle update a --conservative", "crates.io": "cargo update -p a --precise 2-1", "Packagist": "composer require 'a:^2-1'",
		"NuGet": "dotnet add package a --version 2-1", "Hex": "mix deps.update a", "Pub": "dart pub upgrade a", "Bitnami": "",
	} {
		r := &report.Report{Findings: []event.Finding{finding("CVE-1", event.Package{Name: "a", Version: "1-1", Ecosystem: ecosystem}, "2-1")}}
		if got := advice.Of(r).Updates[0].Command; got != want {
			t.Errorf("%s: %q, want %q", ecosystem, got, want)
		}
	}
}

// FuzzCommandsAreSafe: whatever an image calls its packages, a command holds
// nothing that a shell reads.
func FuzzCommandsAreSafe(f *testing.F) {
	f.Add("a; rm -rf /", "1", "npm")
	f.Add("--pre", "$(id)", "PyPI")
	f.Add("a'b", "1\n2", "Alpine:v3.19")
	f.Fuzz(func(t *testing.T, name, version, ecosystem string) {
		r := &report.Report{Findings: []event.Finding{finding("CVE-1", event.Package{Name: name, Version: "0", Ecosystem: ecosystem}, version)}}
		for _, u := range advice.Of(r).Updates {
			if strings.ContainsAny(u.Command, ";&|$`\\\"()<\n\r*?#!{}[]") || strings.Count(u.Command, "'")%2 != 0 || strings.Contains(u.Command, " -- ") {
				t.Errorf("%q", u.Command)
			}
		}
	})
}
