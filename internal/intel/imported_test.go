package intel_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// subject is a package that an imported database is asked about, and what is
// true by the inputs that the database was built of.
type subject struct {
	ecosystem, name, version, source, module string
	want                                     string
}

func (s subject) pkg() event.Package {
	return event.Package{Ecosystem: s.ecosystem, Name: s.name, Version: s.version, Source: s.source, Module: s.module}
}

// TestRealTrivyDB: a database that trivy-db's own builder made of
// testdata/trivydb/inputs.txtar.
func TestRealTrivyDB(t *testing.T) {
	data := t.TempDir()
	s := source(t, imported(t, data, filepath.Join("testdata", "trivydb", "db.tar.gz")), "import/trivy")
	if s.Skipped != 0 || s.Updated.Format("2006-01-02") != "2026-11-28" {
		t.Errorf("source %+v", s)
	}
	b := open(t, data)
	for _, c := range []subject{
		{"Debian:12", "libssl3", "3.0.11-1~deb12u2", "openssl", "", `CVE-2023-5678 medium fixed "3.0.13-1~deb12u1"`},
		{"Debian:12", "zlib1g", "1:1.2.13.dfsg-1", "zlib", "", `CVE-2023-45853 critical will not fix ""`},
		{"Debian:12", "libexpat1", "2.5.0-1+deb12u1", "expat", "", ""},
		{"Debian:12", "tar", "1.34+dfsg-1.2", "", "", `CVE-2005-2541 low affected ""`},
		{"Debian:12", "python3-urllib3", "1.26.12-1", "python-urllib3", "", `CVE-2023-43804 high fixed "1.26.12-1+deb12u1"`},
		{"PyPI", "urllib3", "1.26.12", "", "", `CVE-2023-43804 high fixed "1.26.17"`},
		{"PyPI", "requests", "2.31.0", "", "", ""},
		{"Alpine:v3.20", "libssl3", "3.3.0-r2", "openssl", "", `CVE-2024-4741 unknown fixed "3.3.0-r3"; CVE-2024-5535 unknown fixed "3.3.1-r1"`},
		{"Ubuntu:22.04", "libxen", "4.16.0-1ubuntu2", "xen", "", `CVE-2099-1005 low affected ""`},
		{"Ubuntu:24.04", "libxen", "4.17.0-1ubuntu1", "xen", "", `CVE-2099-1005 low fixed "4.17.2-1ubuntu1"`},
		{"Rocky Linux:9", "openssl-libs", "1:3.0.7-24.el9", "openssl", "", `CVE-2099-1001 high fixed "1:3.0.7-25.el9_3"`},
		{"Rocky Linux:9", "bash", "5.1.8-6.el9", "bash", "", ""},
		// a module's package goes by nodejs:16::npm there
		{"AlmaLinux:8", "npm", "1:8.19.4-1.16.20.2.8.module_el8.9.0+3700+1", "nodejs", "nodejs:16", `CVE-2099-1003 medium fixed "1:8.19.4-1.16.20.3.1.module_el8.9.0+3731+490e3ce5"`},
		{"AlmaLinux:8", "npm", "1:8.19.4-1.el8", "npm", "", ""},
		{"AlmaLinux:8", "npm", "1:8.19.4-1.18.module_el8.9.0+1+1", "nodejs", "nodejs:18", ""},
		{"npm", "lodash", "4.17.15", "", "", `CVE-2020-8203 high fixed "4.17.19"`},
		{"npm", "minimist", "0.2.3", "", "", `CVE-2021-44906 critical fixed "0.2.4"`},
		{"npm", "minimist", "1.2.6", "", "", ""},
		{"npm", "npm", "10.0.0", "", "", `GHSA-made-upnp-m000 low fixed "99.0.0"`},
		{"npm", "mocha", "6.2.0", "", "", `GHSA-made-uped-mcha low affected ""`},
		{"Maven", "org.apache.logging.log4j:log4j-core", "2.14.1", "", "", `CVE-2021-44228 critical fixed "2.15.0"`},
		{"Maven", "org.apache.logging.log4j:log4j-core", "2.12.2", "", "", ""},
		// the Ruby Advisory Database lists what is not vulnerable
		{"RubyGems", "rack", "2.2.3", "", "", `CVE-2022-30122 high fixed "2.2.3.1"`},
		{"RubyGems", "rack", "2.0.1", "", "", `CVE-2022-30122 high fixed "2.0.9.1"`},
		{"RubyGems", "rack", "2.1.4.1", "", "", ""},
		{"RubyGems", "rack", "1.1.6", "", "", ""},
		// on Windows only
		{"Go", "stdlib", "1.26.0", "", "", ""},
	} {
		if got := summary(t, b, c.pkg()); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.ecosystem, c.name, c.version, got, c.want)
		}
	}
	// Two publishers speak of one CVE: each package gets its own one's word.
	findings, _ := match(t, b, event.Package{Ecosystem: "Debian:12", Name: "python-urllib3", Version: "1.26.12-1"}, event.Package{Ecosystem: "PyPI", Name: "urllib3", Version: "1.26.12"})
	if len(findings) != 2 || findings[1].SeveritySource != "ghsa" || !strings.Contains(findings[0].Title, "Cookie header") {
		t.Errorf("%+v", findings)
	}
}

// TestRealGrypeDB: a database that Grype's own builder made of
// testdata/grypedb/inputs.txtar, in the archive that it writes (window: 128 MiB).
func TestRealGrypeDB(t *testing.T) {
	data := t.TempDir()
	m := imported(t, data, filepath.Join("testdata", "grypedb", "db.tar.zst"))
	if s := source(t, m, "import/grype"); s.Skipped != 0 || s.Ecosystems["Ubuntu:24.04"] != 1 {
		t.Errorf("source %+v", s)
	}
	b := open(t, data)
	for _, c := range []subject{
		{"Debian:12", "libssl3", "3.0.11-1~deb12u2", "openssl", "", `CVE-2023-5678 medium fixed "3.0.13-1~deb12u1"`},
		{"Debian:12", "zlib1g", "1:1.2.13.dfsg-1", "zlib", "", `CVE-2023-45853 critical will not fix ""`},
		{"Debian:12", "libexpat1", "2.5.0-1+deb12u1", "expat", "", ""},
		{"Debian:12", "tar", "1.34+dfsg-1.2", "", "", `CVE-2005-2541 negligible affected ""`},
		{"Debian:12", "python3-urllib3", "1.26.12-1", "python-urllib3", "", `CVE-2023-43804 high fixed "1.26.12-1+deb12u1"`},
		{"PyPI", "urllib3", "1.26.12", "", "", `CVE-2023-43804 high fixed "1.26.17"`},
		{"PyPI", "requests", "2.31.0", "", "", ""},
		{"Alpine:v3.20", "libssl3", "3.3.0-r2", "openssl", "", `CVE-2024-4741 unknown fixed "3.3.0-r3"; CVE-2024-5535 unknown fixed "3.3.1-r1"`},
		// 24.04 is kept as 24 and 4
		{"Ubuntu:22.04", "libxen", "4.16.0-1ubuntu2", "xen", "", `CVE-2099-1005 low affected ""`},
		{"Ubuntu:24.04", "libxen", "4.17.0-1ubuntu1", "xen", "", `CVE-2099-1005 low fixed "4.17.2-1ubuntu1"`},
		// each minor release has rows, some with a fix of their own; the main stream counts
		{"Red Hat:9", "openssl", "1:3.0.7-16.el9_2", "openssl", "", `CVE-2099-1007 high fixed "1:3.0.7-28.el9_4"`},
		{"Red Hat:9", "openssl", "1:3.0.7-28.el9_4", "openssl", "", ""},
		{"Red Hat:8", "nodejs", "1:16.20.2-1.module+el8.8.0+1+1", "nodejs", "nodejs:16", `CVE-2099-1008 medium fixed "1:16.20.3-1.module+el8.9.0+1+1"`},
		{"Red Hat:8", "nodejs", "1:10.0.0-1.module+el8.8.0+1+1", "nodejs", "nodejs:18", ""},
		{"Oracle Linux:9", "openssl", "1:3.0.7-24.el9", "openssl", "", `CVE-2099-1009 high fixed "1:3.0.7-25.0.1.el9_3"`},
		{"Amazon Linux:2023", "openssl", "1:3.0.8-1.amzn2023.0.11", "openssl", "", `CVE-2099-1009 medium fixed "1:3.0.8-1.amzn2023.0.12"`},
		{"SUSE:15.5", "libopenssl3", "3.0.8-150500.5.17.1", "openssl-3", "", `CVE-2099-1010 low fixed "3.0.8-150500.5.20.1"`},
		{"npm", "lodash", "4.17.15", "", "", `CVE-2020-8203 high fixed "4.17.19"`},
		{"npm", "minimist", "0.2.3", "", "", `CVE-2021-44906 critical fixed "0.2.4"`},
		{"npm", "minimist", "1.2.6", "", "", ""},
		{"npm", "mocha", "6.2.0", "", "", `GHSA-made-uped-mcha low affected ""`},
		{"Maven", "org.apache.logging.log4j:log4j-core", "2.14.1", "", "", `CVE-2021-44228 critical fixed "2.15.0"`},
		{"Maven", "org.apache.logging.log4j:log4j-core", "2.12.2", "", "", ""},
		{"RubyGems", "rack", "2.2.3", "", "", `CVE-2022-30122 high fixed "2.2.3.1"`},
		{"RubyGems", "rack", "2.1.4.1", "", "", ""},
		{"Go", "example.org/dep", "1.2.3", "", "", `GO-2099-0001 unknown fixed "1.3.0"`},
	} {
		if got := summary(t, b, c.pkg()); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.ecosystem, c.name, c.version, got, c.want)
		}
	}
	findings, _ := match(t, b, event.Package{Ecosystem: "Maven", Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1"})
	if len(findings) != 1 || !findings[0].KnownExploited || findings[0].EPSS != 0.94358 {
		t.Errorf("%+v", findings)
	}
	// AlmaLinux is there only by what is fixed; Grype itself judges it by Red Hat's.
	if findings, gaps := match(t, b, event.Package{Ecosystem: "AlmaLinux:8", Name: "bash", Version: "4.4.19-1.el8"}); len(findings) != 0 || !strings.Contains(strings.Join(gaps, " "), "AlmaLinux 8: no advisories") {
		t.Errorf("%+v, gaps %q", findings, gaps)
	}
}
