package inventory_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
)

// TestOwner: what another driver finds in a file of a distribution's package
// belongs to that package; what somebody else put there does not.
func TestOwner(t *testing.T) {
	const (
		dist    = "usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO"
		six     = dist + `: Name: six\nVersion: 1.16.0\n`
		list    = `var/lib/dpkg/info/python3-six.list: /.\n/` + dist + `\n`
		pip     = `usr/local/lib/python3.11/site-packages/six-1.16.0.dist-info/METADATA: Name: six\nVersion: 1.16.0\n`
		release = `etc/os-release: ID=debian\nVERSION_ID=12\n`
		purl    = "pkg:deb/debian/python3-six@1.16.0-4?distro=debian-12"
		npm     = "usr/lib/node_modules/npm/package.json"
		apkDB   = `lib/apk/db/installed: P:npm\nV:10.9.0-r0\nF:usr/lib/node_modules/npm\nR:package.json\n`
		alpine  = `etc/os-release: ID=alpine\nVERSION_ID=3.20.3\n`
	)
	for _, c := range []struct {
		name, find string
		layers     [][]string
		want       string
	}{
		{"one layer", "six", [][]string{{release, status("python3-six=1.16.0-4"), six, list}}, purl},
		{"the list before the file", "six", [][]string{{list, release, status("python3-six=1.16.0-4"), six}}, purl},
		{"installed by a later step", "six", [][]string{{release, status("a=1")}, {status("a=1", "python3-six=1.16.0-4"), six, list}}, purl},
		{"another folder", "six", [][]string{{release, status("python3-six=1.16.0-4"), pip, list}}, ""},
		{"replaced by a later step", "six", [][]string{{release, status("python3-six=1.16.0-4"), six, list}, {six}}, ""},
		{"the package is gone, the file is not", "six", [][]string{{release, status("python3-six=1.16.0-4"), six, list}, {status("a=1")}}, ""},
		{"before usr was merged", "six", [][]string{{release, status("python3-six=1.16.0-4"), six, `var/lib/dpkg/info/python3-six:all.list: /lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO\n`}}, purl},
		{"distroless", "six", [][]string{{release}, {`var/lib/dpkg/status.d/python3-six: Package: python3-six\nVersion: 1.16.0-4\n`, six, `var/lib/dpkg/status.d/python3-six.md5sums: 0123456789abcdef0123456789abcdef  ` + dist + `\n`}}, purl},
		{"apk", "npm", [][]string{{alpine, apkDB, npm + `: {"name":"npm","version":"10.9.0"}`}}, "pkg:apk/alpine/npm@10.9.0-r0?distro=alpine-3.20.3"},
		{"npm brought itself up to date", "npm", [][]string{{alpine, apkDB, npm + `: {"name":"npm","version":"10.9.0"}`}, {npm + `: {"name":"npm","version":"11.0.0"}`}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := drivers.All(inventory.Key{1})
			var layers []*inventory.Layer
			for _, lines := range c.layers {
				l := e.NewLayer()
				for _, line := range lines {
					visit(l, line)
				}
				layers = append(layers, l)
			}
			for _, got := range [][]event.Package{e.Merge(restored(t, layers)).Packages, e.Merge(layers).Packages} {
				found := false
				for _, p := range got {
					if p.Ecosystem == "PyPI" || p.Ecosystem == "npm" {
						found = true
						if p.Owner != c.want {
							t.Errorf("%s belongs to %q, want %q", p.PURL, p.Owner, c.want)
						}
					} else if p.Owner != "" {
						t.Errorf("%s has an owner", p.PURL)
					}
				}
				if !found {
					t.Errorf("%s was not found: %v", c.find, got)
				}
			}
		})
	}
}
