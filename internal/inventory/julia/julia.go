// Package julia finds Julia packages: those in a depot, packages/NAME/SLUG with
// a Project.toml, and those that Manifest.toml pins (Pkg's documentation, forms
// 1 and 2). Standard libraries have no version there and are not listed.
package julia

import (
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Driver is the inventory's driver for a depot's packages and for manifests.
type Driver struct{}

// Names are Project.toml and Manifest.toml.
func (Driver) Names() []string { return []string{"Project.toml", "Manifest.toml"} }

// Wants the project of a depot's package, and manifests of this image's own
// projects.
func (Driver) Wants(file string, _ inventory.Info) bool {
	inDepot := strings.Contains(file, "packages/")
	if !strings.HasSuffix(file, "Project.toml") {
		return !inDepot && !lockfile.Noise(file)
	}
	// …/packages/NAME/SLUG/Project.toml
	i := strings.LastIndex(file, "packages/")
	return inDepot && (i == 0 || file[i-1] == '/') && strings.Count(file[i:], "/") == 3
}

// Extract lists the package, or every pinned one.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	if path.Base(f.Path) == "Project.toml" {
		for t := range lockfile.Tables(data) {
			if t.Name == "" {
				out = purl.Append(out, purl.Julia(t.Values["name"], t.Values["version"], t.Values["uuid"]))
			}
		}
		return out, nil
	}
	for t := range lockfile.Tables(data) {
		name := strings.TrimPrefix(t.Name, "deps.")
		if !strings.Contains(name, ".") {
			out = purl.Append(out, purl.Julia(name, t.Values["version"], t.Values["uuid"]))
		}
	}
	return lockfile.Locked(out), nil
}
