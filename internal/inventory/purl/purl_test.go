package purl_test

import (
	"strings"
	"testing"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

func TestOneForm(t *testing.T) {
	for _, c := range []struct {
		got             event.Package
		ecosystem, name string
		want            string
	}{
		{purl.NPM("@babel/core", "7.0.0"), "npm", "@babel/core", "pkg:npm/%40babel/core@7.0.0"},
		{purl.NPM("lodash", "4.17.21"), "npm", "lodash", "pkg:npm/lodash@4.17.21"},
		{purl.PyPI("Zope.Interface_X", "1.0"), "PyPI", "zope-interface-x", "pkg:pypi/zope-interface-x@1.0"},
		{purl.Maven("org.apache.logging.log4j", "log4j-core", "2.14.1"), "Maven", "org.apache.logging.log4j:log4j-core", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{purl.Maven("", "x", "1"), "Maven", "x", "pkg:maven/x@1"},
		{purl.Gem("nokogiri", "1.15.0", "x86_64-linux"), "RubyGems", "nokogiri", "pkg:gem/nokogiri@1.15.0?platform=x86_64-linux"},
		{purl.Composer("Symfony/HTTP-Kernel", "v5.4.0"), "Packagist", "symfony/http-kernel", "pkg:composer/symfony/http-kernel@v5.4.0"},
		{purl.Cargo("serde_json", "1.0.0"), "crates.io", "serde_json", "pkg:cargo/serde_json@1.0.0"},
		{purl.Go("github.com/BurntSushi/toml", "v1.0.0+incompatible"), "Go", "github.com/BurntSushi/toml", "pkg:golang/github.com/burntsushi/toml@v1.0.0%2Bincompatible"},
		{purl.NuGet("Newtonsoft.Json", "13.0.1"), "NuGet", "Newtonsoft.Json", "pkg:nuget/Newtonsoft.Json@13.0.1"},
		{purl.Swift("https://GitHub.com/apple/swift-nio.git", "2.0.0"), "SwiftURL", "github.com/apple/swift-nio", "pkg:swift/github.com/apple/swift-nio@2.0.0"},
		{purl.Swift("git@github.com:apple/swift-nio.git", "2.0.0"), "SwiftURL", "github.com/apple/swift-nio", "pkg:swift/github.com/apple/swift-nio@2.0.0"},
		{purl.Conan("zlib", "1.2.13", "me", "stable"), "ConanCenter", "zlib", "pkg:conan/zlib@1.2.13?channel=stable&user=me"},
		{purl.Julia("JSON", "0.21.4", "682c06a0-de6a-54ab-a142-c8b1cf79cde6"), "Julia", "JSON", "pkg:julia/JSON@0.21.4?uuid=682c06a0-de6a-54ab-a142-c8b1cf79cde6"},
		{purl.CPAN("dbaron", "Moose", "2.2"), "CPAN", "Moose", "pkg:cpan/DBARON/Moose@2.2"},
		{purl.Bitnami("Redis", "7.0.5-1", "amd64"), "Bitnami", "redis", "pkg:bitnami/redis@7.0.5-1?arch=amd64"},
		{purl.Program("Bitnami", "node", "node", "18.1.0"), "Bitnami", "node", "pkg:generic/node@18.1.0"},
		{purl.WordPress("plugin", "akismet", "5.0"), "WordPress", "plugin/akismet", "pkg:wordpress/plugin/akismet@5.0"},
	} {
		if c.got.PURL != c.want || c.got.Name != c.name || c.got.Ecosystem != c.ecosystem {
			t.Errorf("got %+v, want %s of %s, %s", c.got, c.name, c.ecosystem, c.want)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	for _, bad := range []string{"", " a", "a\n", "a\x00b", "\xff", strings.Repeat("a", 1000)} {
		if p := purl.NPM(bad, "1"); p.PURL != "" {
			t.Errorf("name %q gives %+v", bad, p)
		}
		if p := purl.NPM("a", bad); p.PURL != "" {
			t.Errorf("version %q gives %+v", bad, p)
		}
	}
	for _, p := range []event.Package{purl.Julia("JSON", "1", ""), purl.Composer("novendor", "1"), purl.Swift("nio", "1"), purl.Maven("a b", "c", "1")} {
		if p.PURL != "" {
			t.Errorf("got %+v", p)
		}
	}
}

// FuzzCanonical: whatever a file says, a purl that comes out is one that any
// reader understands in the same way.
func FuzzCanonical(f *testing.F) {
	f.Add("@scope/name", "1.0")
	f.Add("a%2Fb/c?d#e", "1:2+3~4")
	f.Add("../a//b", "v 1")
	f.Fuzz(func(t *testing.T, name, version string) {
		for _, p := range []event.Package{
			purl.NPM(name, version), purl.PyPI(name, version), purl.Maven(name, name, version), purl.Gem(name, version, name),
			purl.Composer(name, version), purl.Go(name, version), purl.Swift(name, version), purl.Julia(name, version, name), purl.CPAN(name, name, version),
		} {
			if p.PURL == "" {
				continue
			}
			u, err := packageurl.FromString(p.PURL)
			if err != nil || u.ToString() != p.PURL || u.Version != p.Version {
				t.Errorf("%q %q: %q reads back as %q, %v", name, version, p.PURL, u.ToString(), err)
			}
		}
	})
}
