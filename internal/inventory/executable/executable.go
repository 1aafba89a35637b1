// Package executable reads each ELF program and library once for everything
// that can be proved by it: the modules of a Go program (package gobinary), the
// crates of a Rust program (package cargo: all of them if cargo auditable built
// it, else those that left a trace), and known programs by the text in them
// (package program).
//
// Where an image's source can be read at offsets, only the parts that hold such
// evidence are read, never code; else the file goes by once.
package executable

import (
	"bytes"
	"io"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/cargo"
	"github.com/breakwater-sec/breakwater/internal/inventory/gobinary"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
)

const (
	minSize = 4 << 10 // bytes of a named program or library
	window  = 128 << 10
)

// Driver is the inventory's driver for programs and libraries.
type Driver struct{ table func() *program.Table }

// New makes it; table, of known programs, is asked when the first file is.
func New(table func() *program.Table) Driver { return Driver{table} }

// Wants programs that are large enough to hold anything, and files that have
// the name of a known program or library.
func (d Driver) Wants(path string, info inventory.Info) bool {
	if (gobinary.Driver{}).Wants(path, info) {
		return true
	}
	if info.Size < minSize {
		return false
	}
	base := path[strings.LastIndexByte(path, '/')+1:]
	return (info.Executable || strings.Contains(base, ".so")) && d.table().Names(base)
}

// Extract lists what the program is made of, or what it is.
func (d Driver) Extract(f inventory.File) ([]event.Package, error) {
	search := d.table().Search(f.Path[strings.LastIndexByte(f.Path, '/')+1:])
	if at, ok := f.Content.(io.ReaderAt); ok {
		return offsets(f, at, search)
	}
	return stream(f, search)
}

func offsets(f inventory.File, at io.ReaderAt, search *program.Search) ([]event.Package, error) {
	l, ok := layoutOf(at)
	if !ok {
		return nil, nil
	}
	if packages, err := goModules(f); len(packages) > 0 || err != nil {
		return packages, err
	}
	var crates []event.Package
	var err error
	if s, ok := l.section(at, cargo.Section); ok {
		crates, err = cargo.Audit(io.NewSectionReader(at, s.off, s.size))
	}
	if search != nil {
		texts(at, l.data, search.Window)
		return append(crates, search.Packages()...), err
	}
	if len(crates) > 0 || err != nil || !f.Executable {
		return crates, err
	}
	var traces cargo.Traces
	texts(at, l.data, func(data []byte) bool { traces.Window(data); return false })
	return traces.Packages(), nil
}

// overlap is how much of one window the next repeats.
const overlap = max(program.Overlap, cargo.TraceOverlap)

// texts gives the parts in windows to look, until that is done or the file ends.
func texts(at io.ReaderAt, parts []part, look func([]byte) bool) {
	buf := make([]byte, window)
	for _, p := range parts {
		for off := p.off; off < p.off+p.size; off += int64(window - overlap) {
			n, err := at.ReadAt(buf[:min(window, p.off+p.size-off)], off)
			if look(buf[:n]) || err != nil || off+int64(n) >= p.off+p.size {
				break
			}
		}
	}
}

func goModules(f inventory.File) ([]event.Package, error) {
	if !(gobinary.Driver{}).Wants(f.Path, inventory.Info{Size: f.Size, Executable: true}) {
		return nil, nil
	}
	return gobinary.Driver{}.Extract(f)
}

// stream lets the file go by: what gobinary reads is seen by the others too.
func stream(f inventory.File, search *program.Search) ([]event.Package, error) {
	var magic [4]byte
	if _, err := io.ReadFull(f.Content, magic[:]); err != nil || string(magic[:]) != "\x7fELF" {
		return nil, nil // a script, or cut off
	}
	var found watcher
	found.search = search
	rest := io.TeeReader(io.MultiReader(bytes.NewReader(magic[:]), f.Content), &found)
	f.Content = rest
	packages, err := goModules(f)
	if len(packages) > 0 || err != nil {
		return packages, err
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return nil, nil // cut off: it cannot run either
	}
	return found.packages()
}
