package vuln_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func TestOneSpelling(t *testing.T) {
	for _, c := range [][3]string{
		{"PyPI", "Django", "django"}, {"PyPI", "jw.util", "jw-util"}, {"PyPI", "zope.__Interface", "zope-interface"}, {"PyPI", "a-b", "a-b"},
		{"NuGet", "Newtonsoft.Json", "newtonsoft.json"}, {"Packagist", "Symfony/Http-Kernel", "symfony/http-kernel"},
		{"npm", "JSONStream", "JSONStream"}, {"Go", "github.com/BurntSushi/toml", "github.com/BurntSushi/toml"}, {"Maven", "A:b", "A:b"},
	} {
		if got := vuln.Name(c[0], c[1]); got != c[2] {
			t.Errorf("%s %s: got %q, want %q", c[0], c[1], got, c[2])
		}
		if s := vuln.SubjectOf(&event.Package{Name: c[1], Version: "1"}, c[0]); s.Name != c[2] {
			t.Errorf("%s %s: subject %q", c[0], c[1], s.Name)
		}
	}
}
