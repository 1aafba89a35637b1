// Package gomod finds the modules that a go.mod wants, by The Go Modules
// Reference. It is there when an image holds sources; what a program was built
// from is in the program (package gobinary). go.sum also lists versions that
// nobody chose and is not read.
package gomod

import (
	"errors"

	"golang.org/x/mod/modfile"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxSize = 4 << 20 // bytes

// Driver is the inventory's driver for go.mod.
type Driver struct{}

// Names is go.mod.
func (Driver) Names() []string { return []string{"go.mod"} }

// Wants a go.mod that is this image's own, not one of Go's sources.
func (Driver) Wants(path string, _ inventory.Info) bool {
	return !lockfile.Noise(path) && path != "usr/local/go/src/go.mod" && path != "usr/local/go/src/cmd/go.mod"
}

// Extract lists the requirements with replacements applied.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return nil, err
	}
	m, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return nil, errors.New("is not a valid go.mod")
	}
	replaced := map[string]*modfile.Replace{}
	for _, r := range m.Replace {
		replaced[r.Old.Path+"@"+r.Old.Version] = r
	}
	var out []event.Package
	for _, r := range m.Require {
		module := r.Mod
		for _, key := range []string{module.Path + "@", module.Path + "@" + module.Version} {
			if to := replaced[key]; to != nil && to.New.Version != "" { // a folder has no version
				module = to.New
			}
		}
		out = purl.Append(out, purl.Go(module.Path, module.Version))
	}
	return lockfile.Locked(out), nil
}
