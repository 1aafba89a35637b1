package osrelease_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]inventory.Distro{
		"ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n": {ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"},
		"ID='Ubuntu'\r\nVERSION_ID='24.04'\r\n":                  {ID: "ubuntu", Version: "24.04"},
		"# ID=no\n\nID=alpine\nno assignment\n=x\nVERSION_ID=\"": {ID: "alpine", Version: "\""},
		`PRETTY_NAME="a \"b\" \$c \\"`:                           {Name: `a "b" $c \`},
		"":                                                       {},
	} {
		if got := osrelease.Parse(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestGiantIsRefused(t *testing.T) {
	f := inventory.File{Path: "etc/os-release", Info: inventory.Info{Size: 1 << 30}, Content: strings.NewReader("")}
	if _, err := (osrelease.Reader{}).Extract(f); err == nil {
		t.Error("no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ID=debian\nVERSION_ID=\"12\"\n")
	f.Add("A=\"\\\nB='")
	f.Fuzz(func(_ *testing.T, s string) { osrelease.Parse(s) })
}
