// Package cran finds R packages: installed ones by the DESCRIPTION in a
// library ("Writing R Extensions"), pinned ones in renv.lock. The packages that
// R itself consists of (Priority: base) are not listed: they are R.
package cran

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxDescription = 1 << 20 // bytes

// Driver is the inventory's driver for installed packages.
type Driver struct{}

// Names is DESCRIPTION.
func (Driver) Names() []string { return []string{"DESCRIPTION"} }

// Wants NAME/DESCRIPTION in a folder called library or site-library.
func (Driver) Wants(path string, _ inventory.Info) bool {
	dir, ok := strings.CutSuffix(path, "/DESCRIPTION")
	i := strings.LastIndexByte(dir, '/')
	return ok && i >= 0 && (strings.HasSuffix(dir[:i], "library") || strings.Contains(dir[:i], "/R/"))
}

// Extract lists the one package.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxDescription)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for raw := range bytes.Lines(data) {
		line := string(raw)
		if key, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			fields[key] = strings.TrimSpace(value)
		}
	}
	if fields["Priority"] == "base" || fields["Built"] == "" { // sources have no Built
		return nil, nil
	}
	p := purl.CRAN(fields["Package"], fields["Version"])
	if license := fields["License"]; p.Name != "" && purl.Valid(license) {
		p.Licenses = []string{license}
	}
	return purl.Append(nil, p), nil
}

// Locks is the inventory's driver for renv.lock.
type Locks struct{}

// Names is renv.lock.
func (Locks) Names() []string { return []string{"renv.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists the packages of a repository; those of GitHub and of
// Bioconductor are not CRAN's.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var m struct {
		Packages map[string]struct{ Package, Version, Source string }
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	var out []event.Package
	for _, p := range m.Packages {
		if p.Source == "Repository" || p.Source == "CRAN" {
			out = purl.Append(out, purl.CRAN(p.Package, p.Version))
		}
	}
	return lockfile.Locked(out), nil
}
