package npm_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/npm"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, npm.Driver{}, []inventorytest.Case{
		{Path: "app/node_modules/lodash/package.json", Content: []byte(`{"name":"lodash","version":"4.17.15","license":"MIT"}`), Want: []string{"lodash 4.17.15"}},
		{Path: "node_modules/@scope/pkg/package.json", Content: []byte("\xef\xbb\xbf" + `{"name":"@scope/pkg","version":"v1.0.0"}`), Want: []string{"@scope/pkg 1.0.0"}},
		{Path: "a/node_modules/b/node_modules/c/package.json", Content: []byte(`{"version":"1.0.0-rc.1","name":"c","dependencies":{"version":"2"}}`), Want: []string{"c 1.0.0-rc.1"}},
		{Path: "usr/lib/node_modules/marker/package.json", Content: []byte(`{"type":"module"}`)},
	}, []string{
		"app/package.json", "app/node_modules/a/dist/package.json", "app/node_modules/@scope/a/b/package.json",
		"app/my_node_modules/a/package.json", "app/node_modules/package.json", "app/node_modules/@scope/package.json/x", "app/node_modules//package.json",
	})
}

func TestPURLAndLicence(t *testing.T) {
	p, err := npm.Parse([]byte(`{"name":"@scope/pkg","version":"1.0.0","license":"ISC"}`))
	if err != nil || p.PURL != "pkg:npm/%40scope/pkg@1.0.0" || len(p.Licenses) != 1 || p.Licenses[0] != "ISC" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestBadJSON(t *testing.T) {
	for name, bad := range map[string]string{
		"cut":     `{"name":"a","ver`,
		"array":   `[1]`,
		"numbers": `{"name":1,"version":2}`,
		"deep":    strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000),
		"zeros":   strings.Repeat("\x00", 100),
	} {
		f := inventory.File{Path: "node_modules/a/package.json", Info: inventory.Info{Size: int64(len(bad))}, Content: strings.NewReader(bad)}
		packages, err := npm.Driver{}.Extract(f)
		if err == nil || len(packages) > 0 || len(err.Error()) > 200 {
			t.Errorf("%s: %v, %v", name, packages, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name":"@scope/pkg","version":"1.0.0","license":{"type":"MIT"}}`))
	f.Add([]byte(`{"name":"\u0000","version":"\ud800"}`))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = npm.Parse(data) })
}
