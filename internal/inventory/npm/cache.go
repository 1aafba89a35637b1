package npm

import (
	"bytes"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
	"github.com/breakwater-sec/breakwater/internal/inventory/zipdir"
)

// Cache is the inventory's driver for Yarn Plug'n'Play, whose programs run
// from the zip archives in .yarn/cache.
type Cache struct{}

// Names is the archives' extension.
func (Cache) Names() []string { return []string{"*.zip"} }

// Wants the archives of a .yarn/cache folder.
func (Cache) Wants(path string, _ inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	return i >= 0 && (path[:i] == ".yarn/cache" || strings.HasSuffix(path[:i], "/.yarn/cache"))
}

// Extract reads the package.json of the one package in the archive.
func (Cache) Extract(f inventory.File) ([]event.Package, error) {
	at, err := zipdir.Content(f)
	if err != nil {
		return nil, err
	}
	dir, err := zipdir.Open(at, f.Size, 16*maxSize)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	err = dir.Each(func(name []byte) bool {
		return bytes.HasSuffix(name, []byte("/package.json")) && Driver{}.Wants(string(name), inventory.Info{})
	}, func(e zipdir.Entry) error {
		data, err := dir.Read(e, maxSize)
		if err != nil {
			return err
		}
		p, err := Parse(data)
		out = purl.Append(out, p)
		return err
	})
	return out, err
}
