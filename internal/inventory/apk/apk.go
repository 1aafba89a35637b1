// Package apk finds the packages of apk, the package manager of Alpine and
// Wolfi: its database of installed packages, which also names their files. The
// format is described in https://wiki.alpinelinux.org/wiki/Apk_spec.
package apk

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxSize = 64 << 20 // bytes; 1,000 packages have 5 MB

// Driver is the inventory's driver for apk.
type Driver struct{}

// Names of the database.
func (Driver) Names() []string { return []string{"installed"} }

// Wants the database, where apk has kept it and where newer ones do.
func (Driver) Wants(path string, _ inventory.Info) bool {
	return path == "lib/apk/db/installed" || path == "usr/lib/apk/db/installed"
}

// Extract lists the installed packages.
func (d Driver) Extract(f inventory.File) ([]event.Package, error) {
	return d.ExtractClaims(f, func(string, []byte) {})
}

// ExtractClaims implements inventory.Claimer.
func (Driver) ExtractClaims(f inventory.File, claim func(owner string, path []byte)) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return nil, err
	}
	r := reading{claim: claim}
	for line := range bytes.Lines(data) {
		r.line(bytes.TrimRight(line, "\r\n"))
	}
	r.end()
	if r.bad > 0 {
		return r.out, fmt.Errorf("%d packages are not usable, the first one: %q", r.bad, r.first)
	}
	return r.out, nil
}

// reading is one pass over the database: paragraphs of lines "X:value".
type reading struct {
	claim func(owner string, path []byte)
	out   []event.Package
	p     event.Package
	open  bool // the paragraph has lines
	path  []byte
	dir   int // length of the folder in path
	bad   int
	first string
}

func (r *reading) line(line []byte) {
	if len(line) == 0 {
		r.end()
		return
	}
	if len(line) < 2 || line[1] != ':' {
		return
	}
	r.open = true
	value := line[2:]
	switch line[0] {
	case 'P':
		r.p.Name = string(value)
	case 'V':
		r.p.Version = string(value)
	case 'A':
		r.p.Arch = string(value)
	case 'o':
		r.p.Source = string(value)
	case 'L':
		if l := strings.TrimSpace(string(value)); purl.Valid(l) {
			r.p.Licenses = []string{l}
		}
	case 'F':
		r.path = append(append(r.path[:0], value...), '/')
		r.dir = len(r.path)
	case 'R':
		r.path = append(r.path[:r.dir], value...)
		if purl.Valid(r.p.Name) {
			r.claim(r.p.Name, r.path)
		}
	}
}

// end takes the paragraph.
func (r *reading) end() {
	p := r.p
	open := r.open
	r.p, r.open, r.path, r.dir = event.Package{}, false, r.path[:0], 0
	if !open {
		return
	}
	if !purl.Valid(p.Name) || !purl.Valid(p.Version) || p.Arch != "" && !purl.Valid(p.Arch) || p.Source != "" && !purl.Valid(p.Source) {
		if r.bad++; r.bad == 1 {
			r.first = p.Name + " " + p.Version
		}
		return
	}
	if p.Source == p.Name {
		p.Source = ""
	}
	r.out = append(r.out, p)
}

// Place names the ecosystem and gives the purl its distribution.
func (Driver) Place(p *event.Package, d inventory.Distro) {
	p.Ecosystem = d.Ecosystem("Alpine")
	id := d.ID
	if id == "" {
		id = "alpine"
	}
	p.PURL = purl.System(packageurl.TypeApk, id, d.Version, p.Name, p.Version, p.Arch)
}
