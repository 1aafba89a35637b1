package program

import (
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
)

const maxText = 1 << 20 // bytes; a JDK's release file has a few kB

// Texts is the inventory's driver for programs that a text file proves.
type Texts struct{ table func() *Table }

// NewTexts makes it; table is asked when the first file is.
func NewTexts(table func() *Table) Texts { return Texts{table} }

// Wants a file of such a name; few have it, and many of those are something
// else.
func (d Texts) Wants(path string, info inventory.Info) bool {
	return info.Size <= maxText && len(d.table().texts[path[strings.LastIndexByte(path, '/')+1:]]) > 0
}

// Extract lists the programs that the file proves.
func (d Texts) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxText)
	if err != nil {
		return nil, err
	}
	base := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
	s := newSearch(d.table().texts[base], base)
	if s == nil {
		return nil, nil
	}
	s.Window(data)
	return s.Packages(), nil
}
