package scan

import (
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/license"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// addLicenses gives every package one SPDX expression: what it states itself,
// else what Debian's copyright file or the licence file beside it says. Files
// that belong to no package are listed by themselves.
func addLicenses(rep *report.Report, results []*layerResult, layers []*inventory.Layer) {
	l := licensed{byDir: map[string][]*event.Package{}, byName: map[string][]*event.Package{}}
	for i := range rep.Packages {
		l.add(&rep.Packages[i])
	}
	for i, r := range results {
		for _, found := range r.Found[event.LookedLicenses].Licenses {
			if inventory.Hidden(layers[i+1:], found.Place.Path) {
				continue
			}
			if !l.claim(found) {
				found.Place.Layer, found.Place.LayerIndex = rep.Layers[i].DiffID, i
				rep.Licenses = append(rep.Licenses, found)
			}
		}
	}
}

// licensed says whose a licence file is.
type licensed struct {
	byDir  map[string][]*event.Package // folder of a package's own files
	byName map[string][]*event.Package // of distributions' packages
}

func (l *licensed) add(p *event.Package) {
	if e := license.All(p.Licenses); e != "" {
		p.Licenses = []string{e}
	}
	if strings.HasPrefix(p.PURL, "pkg:deb/") {
		l.byName[p.Name] = append(l.byName[p.Name], p)
		return
	}
	dir := path.Dir(p.Path)
	l.byDir[dir] = append(l.byDir[dir], p)
}

// claim gives a file's licence to the packages it belongs to.
func (l *licensed) claim(found event.License) bool {
	dir := path.Dir(found.Place.Path)
	if name, ok := strings.CutPrefix(dir, "usr/share/doc/"); ok {
		return give(l.byName[name], found)
	}
	for range 2 { // beside the metadata, or in its folder "licenses"
		if give(l.byDir[dir], found) {
			return true
		}
		dir = path.Dir(dir)
	}
	return false
}

func give(packages []*event.Package, found event.License) bool {
	for _, p := range packages {
		if len(p.Licenses) == 0 {
			p.Licenses = []string{found.Expression}
		}
	}
	return len(packages) > 0
}
