package gem_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/gem"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	spec = "# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.15.0 x86_64-linux lib\n\nGem::Specification.new do |s|\n  s.name = \"nokogiri\".freeze\n  s.version = \"1.15.0\"\n  s.platform = \"x86_64-linux\".freeze\n\n  s.licenses = [\"MIT\".freeze, \"Apache-2.0\".freeze]\n  s.add_runtime_dependency(%q<racc>.freeze, [\"~> 1.4\"])\nend\n"
	old  = "Gem::Specification.new do |spec|\n  spec.name        = %q{no} if false\n  spec.name = 'rake'\n  spec.version = Gem::Version.new(\"0.9.2\")\nend\n"
	lock = "GIT\n  remote: https://example.org/x.git\n  revision: abc\n  specs:\n    forked (0.1.0)\n\nPATH\n  remote: .\n  specs:\n    own (1.0.0)\n\nGEM\n  remote: https://rubygems.org/\n  specs:\n    actionpack (6.1.0)\n      rack (~> 2.0, >= 2.0.9)\n    nokogiri (1.15.0-x86_64-linux)\n      racc (~> 1.4)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  actionpack (= 6.1.0)\n\nBUNDLED WITH\n   2.3.7\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, gem.Driver{}, []inventorytest.Case{
		{Path: "usr/local/bundle/specifications/nokogiri-1.15.0-x86_64-linux.gemspec", Content: []byte(spec), Want: []string{"nokogiri 1.15.0"}},
		{Path: "usr/lib/ruby/gems/3.1.0/specifications/default/rake-0.9.2.gemspec", Content: []byte(old), Want: []string{"rake 0.9.2"}},
	}, []string{"usr/local/bundle/gems/x-1/x.gemspec", "x.gemspec"})
	inventorytest.Run(t, gem.Locks{}, []inventorytest.Case{
		{Path: "app/Gemfile.lock", Locked: true, Content: []byte(lock), Want: []string{"forked 0.1.0", "actionpack 6.1.0", "nokogiri 1.15.0"}},
	}, []string{"usr/local/bundle/gems/x-1/Gemfile.lock"})
}

func TestPURLAndLicences(t *testing.T) {
	f := inventory.File{Path: "specifications/a.gemspec", Info: inventory.Info{Size: int64(len(spec))}, Content: strings.NewReader(spec)}
	p, err := gem.Driver{}.Extract(f)
	if err != nil || len(p) != 1 || p[0].PURL != "pkg:gem/nokogiri@1.15.0?platform=x86_64-linux" || len(p[0].Licenses) != 2 || p[0].Licenses[1] != "Apache-2.0" {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzSpec(f *testing.F) {
	inventorytest.Fuzz(f, gem.Driver{}, "specifications/a.gemspec", spec, old)
}
func FuzzLock(f *testing.F) { inventorytest.Fuzz(f, gem.Locks{}, "Gemfile.lock", lock) }
