// Package conda finds the packages of Conda environments: installed ones by
// the record that conda writes for each, conda-meta/NAME-VERSION-BUILD.json,
// and wanted ones in conda-lock.yml and in the pinned lines of environment.yml,
// pip's lines included. Python packages in an environment are found by their
// own metadata too, under their own names.
package conda

import (
	"encoding/json"
	"errors"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
	"github.com/breakwater-sec/breakwater/internal/inventory/python"
)

const maxRecord = 32 << 20 // bytes; it lists the package's files

// Driver is the inventory's driver for installed packages.
type Driver struct{}

// Names is the records' extension.
func (Driver) Names() []string { return []string{"*.json"} }

// Wants the records in conda-meta.
func (Driver) Wants(path string, _ inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	return i >= 0 && (path[:i] == "conda-meta" || strings.HasSuffix(path[:i], "/conda-meta"))
}

// Extract lists the one package.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxRecord)
	if err != nil {
		return nil, err
	}
	var m struct{ Name, Version, Build, Subdir, License string }
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	p := purl.Conda(m.Name, m.Version, m.Build, m.Subdir)
	if p.Name != "" && purl.Valid(m.License) {
		p.Licenses = []string{m.License}
	}
	return purl.Append(nil, p), nil
}

// Locks is the inventory's driver for what an environment should hold.
type Locks struct{}

// Names are those of the files.
func (Locks) Names() []string {
	return []string{"environment.yml", "environment.yaml", "conda-lock.yml", "conda-lock.yaml"}
}

// Wants a file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every pinned package.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path.Base(f.Path), "conda-lock") {
		return lockfile.Locked(locked(data)), nil
	}
	return lockfile.Locked(environment(data)), nil
}

// locked reads conda-lock's list: one entry per package and platform.
func locked(data []byte) []event.Package {
	var out []event.Package
	var name, version, manager, platform string
	flush := func() {
		switch manager {
		case "pip":
			out = purl.Append(out, purl.PyPI(name, version))
		case "conda":
			out = purl.Append(out, purl.Conda(name, version, "", platform))
		}
		name, version, manager, platform = "", "", "", ""
	}
	inside := false
	for l := range lockfile.Outline(data) {
		if l.Indent == 0 {
			inside = l.Key == "package"
			continue
		}
		if !inside || l.Indent > 4 { // entries are at 2 or 4, their parts deeper
			continue
		}
		if l.Item {
			flush()
		}
		switch l.Key {
		case "name":
			name = l.Value
		case "version":
			version = l.Value
		case "manager":
			manager = l.Value
		case "platform":
			platform = l.Value
		}
	}
	flush()
	return out
}

// environment reads name=1.0=build and, below pip, name==1.0.
func environment(data []byte) []event.Package {
	var out []event.Package
	inside, pip := false, -1
	for l := range lockfile.Outline(data) {
		switch {
		case l.Key != "" && !l.Item:
			inside, pip = l.Key == "dependencies", -1
		case !inside || !l.Item:
		case l.Key == "pip":
			pip = l.Indent
		case pip >= 0 && l.Indent > pip:
			out = purl.Append(out, python.Pinned(l.Value))
		default:
			out = purl.Append(out, pinned(l.Value))
		}
	}
	return out
}

func pinned(spec string) event.Package {
	if i := strings.Index(spec, "::"); i >= 0 { // channel::name
		spec = spec[i+2:]
	}
	name, rest, ok := strings.Cut(spec, "=")
	version, build, exact := strings.Cut(strings.TrimPrefix(rest, "="), "=")
	// name=1.0 means 1.0.*, only with a build or == it is one version.
	if !ok || !exact && !strings.HasPrefix(rest, "=") || strings.ContainsAny(spec, "<>*,| ") {
		return event.Package{}
	}
	return purl.Conda(name, version, build, "")
}
