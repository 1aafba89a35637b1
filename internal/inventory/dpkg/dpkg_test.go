package dpkg_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/dpkg"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const status = `Package: libsample1
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Source: sample (2:1.2-3)
Version: 2:1.2-3+b1
Description: a sample
 with a second line
 .
 Package: not-a-field
Conffiles:
 /etc/sample 0123456789abcdef0123456789abcdef

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: half
Status: install reinstreq half-installed
architecture: arm64
version: 3.0

Package: self
Status: install ok installed
Architecture: all
Source: self
Version: 0.1~rc1
`

func TestConformance(t *testing.T) {
	inventorytest.Run(t, dpkg.Driver{}, []inventorytest.Case{
		{Path: "var/lib/dpkg/status", Content: []byte(status), Want: []string{"libsample1 2:1.2-3+b1", "half 3.0", "self 0.1~rc1"}},
		{Path: "var/lib/dpkg/status.d/base-files", Content: []byte("Package: base-files\nVersion: 12.4\nArchitecture: amd64\n"), Want: []string{"base-files 12.4"}},
		{Path: "var/lib/dpkg/status", Content: []byte(strings.ReplaceAll("Package: crlf\nStatus: install ok installed\nVersion: 1\n", "\n", "\r\n")), Want: []string{"crlf 1"}},
	}, []string{"var/lib/dpkg/status-old", "var/lib/dpkg/status.d/", "srv/var/lib/dpkg/status", "var/lib/dpkg/status.d/a/b"})
}

func TestFields(t *testing.T) {
	packages, err := dpkg.Parse([]byte(status))
	if err != nil {
		t.Fatal(err)
	}
	p := packages[0]
	if p.Source != "sample" || p.SourceVersion != "2:1.2-3" || p.Arch != "amd64" {
		t.Errorf("got %+v", p)
	}
	if packages[2].Source != "" {
		t.Errorf("a source package of the same name is kept: %+v", packages[2])
	}
}

func TestUnusableParagraphsAreCountedNotDropped(t *testing.T) {
	packages, err := dpkg.Parse([]byte("Status: install ok installed\nVersion: 1\n\nPackage: good\nStatus: install ok installed\nVersion: 1\n\nPackage: x\nStatus: install ok installed\n"))
	if err == nil || !strings.Contains(err.Error(), "2 paragraphs") {
		t.Errorf("error %v", err)
	}
	if len(packages) != 1 || packages[0].Name != "good" {
		t.Errorf("packages %+v", packages)
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		distro          inventory.Distro
		ecosystem, purl string
	}{
		{inventory.Distro{ID: "debian", Version: "12"}, "Debian:12", "pkg:deb/debian/a@1:2?arch=amd64&distro=debian-12"},
		{inventory.Distro{ID: "ubuntu", Version: "24.04"}, "Ubuntu:24.04", "pkg:deb/ubuntu/a@1:2?arch=amd64&distro=ubuntu-24.04"},
		{inventory.Distro{ID: "kali", Version: "2026.1"}, "kali:2026.1", "pkg:deb/kali/a@1:2?arch=amd64&distro=kali-2026.1"},
		{inventory.Distro{}, "Debian", "pkg:deb/debian/a@1:2?arch=amd64"},
	} {
		p := event.Package{Name: "a", Version: "1:2", Arch: "amd64"}
		dpkg.Driver{}.Place(&p, c.distro)
		if p.Ecosystem != c.ecosystem || p.PURL != c.purl {
			t.Errorf("%+v: %s, %s", c.distro, p.Ecosystem, p.PURL)
		}
	}
}

func TestFilesOfPackages(t *testing.T) {
	for path, content := range map[string]string{
		"var/lib/dpkg/info/libc6:amd64.list":  "/.\n/lib/libc.so.6\n",
		"var/lib/dpkg/status.d/libc6.md5sums": "0123456789abcdef0123456789abcdef  lib/libc.so.6\n",
	} {
		found := false
		packages, err := dpkg.Driver{}.ExtractClaims(inventory.File{Path: path, Info: inventory.Info{Size: int64(len(content))}, Content: strings.NewReader(content)},
			func(owner string, path []byte) {
				found = found || owner == "libc6" && strings.TrimPrefix(string(path), "/") == "lib/libc.so.6"
			})
		if !found || err != nil || len(packages) > 0 {
			t.Errorf("%s: the file is not claimed (%v, %v)", path, packages, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte("Package:\nVersion:\n\n\n\n:"))
	f.Add([]byte("Package: a\nVersion: 1\nSource: b (\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		packages, _ := dpkg.Parse(data)
		for _, p := range packages {
			if p.Name == "" || p.Version == "" {
				t.Errorf("incomplete %+v", p)
			}
			dpkg.Driver{}.Place(&p, inventory.Distro{ID: "debian", Version: "12"})
		}
	})
}
