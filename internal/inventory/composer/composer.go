// Package composer finds PHP packages: installed ones in Composer's
// vendor/composer/installed.json (both its forms) and locked ones in
// composer.lock. See https://getcomposer.org/doc.
package composer

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

var errJSON = errors.New("is not valid JSON")

type entry struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	License json.RawMessage `json:"license"`
}

func packages(entries []entry) []event.Package {
	var out []event.Package
	for _, e := range entries {
		p := purl.Composer(e.Name, e.Version)
		if p.Name != "" {
			p.Licenses = licenses(e.License)
		}
		out = purl.Append(out, p)
	}
	return out
}

// licenses is one name or a list, any of which may be chosen.
func licenses(raw json.RawMessage) (out []string) {
	var one string
	if json.Unmarshal(raw, &one) == nil && purl.Valid(one) {
		return []string{one}
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	for _, l := range list[:min(len(list), 10)] {
		if purl.Valid(l) {
			out = append(out, l)
		}
	}
	return out
}

// Driver is the inventory's driver for installed packages.
type Driver struct{}

// Names is installed.json.
func (Driver) Names() []string { return []string{"installed.json"} }

// Wants Composer's record of a vendor folder, which may have another name.
func (Driver) Wants(path string, _ inventory.Info) bool {
	return strings.HasSuffix(path, "/composer/installed.json")
}

// Extract lists what is installed.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var list []entry
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '[' { // Composer 1
		err = json.Unmarshal(data, &list)
	} else {
		var m struct{ Packages []entry }
		err = json.Unmarshal(data, &m)
		list = m.Packages
	}
	if err != nil {
		return nil, errJSON
	}
	return packages(list), nil
}

// Locks is the inventory's driver for composer.lock.
type Locks struct{}

// Names is composer.lock.
func (Locks) Names() []string { return []string{"composer.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists what is locked, for development too.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var m struct {
		Packages    []entry `json:"packages"`
		Development []entry `json:"packages-dev"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errJSON
	}
	return lockfile.Locked(packages(append(m.Packages, m.Development...))), nil
}
