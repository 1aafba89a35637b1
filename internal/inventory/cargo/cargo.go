// Package cargo reads the crates that Cargo.lock names, and those that
// `cargo auditable` writes into the programs it builds. For Cargo.lock see The
// Cargo Book; for the other https://github.com/rust-secure-code/cargo-auditable,
// PARSING.md: zlib-compressed JSON in the ELF section .dep-v0.
package cargo

import (
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for Cargo.lock.
type Locks struct{}

// Names is Cargo.lock.
func (Locks) Names() []string { return []string{"Cargo.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists the crates from a registry or git; those without a source are
// the project's own.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	for t := range lockfile.Tables(data) {
		source := t.Values["source"]
		if t.Name == "package" && (strings.HasPrefix(source, "registry+") || strings.HasPrefix(source, "sparse+") || strings.HasPrefix(source, "git+")) {
			out = purl.Append(out, purl.Cargo(t.Values["name"], t.Values["version"]))
		}
	}
	return lockfile.Locked(out), nil
}
