package apk_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/apk"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const installed = `C:Q1p78yvTLG094tHE1+dToJGbmYzQE=
P:libsample3
V:3.1.4-r5
A:x86_64
L:Apache-2.0
o:sample
F:lib
R:libsample.so.3
a:0:0:755
Z:Q1FdfXYoOCWUGzMlxFtK7DgDsVnU8=
F:usr/lib/node_modules/npm
R:package.json

P:busybox
V:1.36.1-r15
A:x86_64
o:busybox
F:
R:loose

P:broken

`

func TestConformance(t *testing.T) {
	good := strings.TrimSuffix(installed, "P:broken\n\n")
	inventorytest.Run(t, apk.Driver{}, []inventorytest.Case{
		{Path: "lib/apk/db/installed", Content: []byte(good), Want: []string{"libsample3 3.1.4-r5", "busybox 1.36.1-r15"}},
		{Path: "usr/lib/apk/db/installed", Content: []byte(good), Want: []string{"libsample3 3.1.4-r5", "busybox 1.36.1-r15"}},
	}, []string{"installed", "srv/lib/apk/db/installed", "lib/apk/db/triggers"})
}

func TestFieldsFilesAndDamage(t *testing.T) {
	var files []string
	packages, err := apk.Driver{}.ExtractClaims(inventory.File{Path: "lib/apk/db/installed", Info: inventory.Info{Size: int64(len(installed))},
		Content: strings.NewReader(installed)}, func(owner string, path []byte) { files = append(files, owner+" "+string(path)) })
	if err == nil || !strings.Contains(err.Error(), "1 packages") || len(packages) != 2 {
		t.Fatalf("%d packages, %v", len(packages), err)
	}
	if p := packages[0]; p.Source != "sample" || p.Arch != "x86_64" || p.Licenses[0] != "Apache-2.0" {
		t.Errorf("got %+v", p)
	}
	if packages[1].Source != "" {
		t.Errorf("a source of the same name is kept: %+v", packages[1])
	}
	if want := []string{"libsample3 lib/libsample.so.3", "libsample3 usr/lib/node_modules/npm/package.json", "busybox /loose"}; !slices.Equal(files, want) {
		t.Errorf("files %q", files)
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		distro          inventory.Distro
		ecosystem, purl string
	}{
		{inventory.Distro{ID: "alpine", Version: "3.20.3"}, "Alpine:v3.20", "pkg:apk/alpine/a@1-r0?arch=x86_64&distro=alpine-3.20.3"},
		{inventory.Distro{ID: "wolfi", Version: "20230201"}, "Wolfi", "pkg:apk/wolfi/a@1-r0?arch=x86_64&distro=wolfi-20230201"},
		{inventory.Distro{}, "Alpine", "pkg:apk/alpine/a@1-r0?arch=x86_64"},
	} {
		p := event.Package{Name: "a", Version: "1-r0", Arch: "x86_64"}
		apk.Driver{}.Place(&p, c.distro)
		if p.Ecosystem != c.ecosystem || p.PURL != c.purl {
			t.Errorf("%+v: %s, %s", c.distro, p.Ecosystem, p.PURL)
		}
	}
}

func FuzzInstalled(f *testing.F) {
	inventorytest.Fuzz(f, apk.Driver{}, "lib/apk/db/installed", installed, "F:a\nR:b\n\nR:c\nP:x\nV:1\n")
}
