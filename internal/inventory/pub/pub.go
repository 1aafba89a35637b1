// Package pub finds the Dart packages that pubspec.lock pins, by
// https://dart.dev/tools/pub. Compiled Dart programs say nothing about theirs.
package pub

import (
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for pubspec.lock.
type Locks struct{}

// Names is pubspec.lock.
func (Locks) Names() []string { return []string{"pubspec.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists the packages of a package server; those of the SDK, of git and
// of folders have no version there.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	var name, version, source string
	flush := func() {
		if source == "hosted" {
			out = purl.Append(out, purl.Pub(name, version))
		}
		name, version, source = "", "", ""
	}
	inside := false
	for l := range lockfile.Outline(data) {
		switch {
		case l.Indent == 0:
			inside = l.Key == "packages"
		case !inside:
		case l.Indent == 2:
			flush()
			name = l.Key
		case l.Indent == 4 && l.Key == "version":
			version = l.Value
		case l.Indent == 4 && l.Key == "source":
			source = l.Value
		}
	}
	flush()
	return lockfile.Locked(out), nil
}
