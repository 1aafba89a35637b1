// Package haskell finds Haskell packages: those registered with GHC
// (package.conf.d/*.conf, the GHC User's Guide), and pinned ones in
// stack.yaml.lock and cabal.project.freeze.
package haskell

import (
	"bytes"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxConf = 1 << 20 // bytes

// Driver is the inventory's driver for registered packages.
type Driver struct{}

// Names is the extension of registrations.
func (Driver) Names() []string { return []string{"*.conf"} }

// Wants the files of a package database.
func (Driver) Wants(path string, _ inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	return i >= 0 && (strings.HasSuffix(path[:i], "/package.conf.d") || strings.HasSuffix(path[:i], "/package.db"))
}

// Extract lists the one package.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxConf)
	if err != nil {
		return nil, err
	}
	var name, version, license string
	for raw := range bytes.Lines(data) {
		if raw[0] == ' ' { // goes on
			continue
		}
		key, value, _ := strings.Cut(string(raw), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "name":
			name = value
		case "version":
			version = value
		case "license":
			license = value
		}
	}
	p := purl.Hackage(name, version)
	if p.Name != "" && purl.Valid(license) {
		p.Licenses = []string{license}
	}
	return purl.Append(nil, p), nil
}

// Locks is the inventory's driver for pinned packages.
type Locks struct{}

// Names are those of the files.
func (Locks) Names() []string { return []string{"stack.yaml.lock", "cabal.project.freeze"} }

// Wants a file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every pinned package.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	if path.Base(f.Path) == "stack.yaml.lock" {
		return lockfile.Locked(stack(data)), nil
	}
	return lockfile.Locked(freeze(data)), nil
}

// stack reads "hackage: name-1.0@sha256:…,123" of what was completed.
func stack(data []byte) []event.Package {
	var out []event.Package
	for l := range lockfile.Outline(data) {
		if l.Key != "hackage" {
			continue
		}
		id, _, _ := strings.Cut(l.Value, "@")
		if i := strings.LastIndexByte(id, '-'); i > 0 {
			out = purl.Append(out, purl.Hackage(id[:i], id[i+1:]))
		}
	}
	return out
}

// freeze reads "any.name ==1.0," of the constraints.
func freeze(data []byte) []event.Package {
	var out []event.Package
	for raw := range bytes.Lines(data) {
		line := strings.TrimRight(strings.TrimSpace(strings.TrimPrefix(string(raw), "constraints:")), ",")
		name, version, ok := strings.Cut(line, "==")
		if !ok || strings.HasPrefix(line, "--") || strings.ContainsAny(version, "|&<>* ") {
			continue
		}
		name = strings.TrimSpace(name)
		out = purl.Append(out, purl.Hackage(strings.TrimPrefix(name, "any."), strings.TrimSpace(version)))
	}
	return out
}
