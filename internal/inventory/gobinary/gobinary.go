// Package gobinary finds the modules that Go programs were built from: the
// build information that the Go linker writes into every program. See
// debug/buildinfo for the format.
//
// A program is read forward and only as far as its data segment, which begins
// with that information; nothing but the text itself is kept in memory, so a
// program of 100 MB costs as much as a small one.
package gobinary

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// minSize: the smallest program of the Go linker, stripped, has over 1 MB.
const minSize = 256 << 10

// Driver is the inventory's driver for Go programs.
type Driver struct{}

// Wants executables that are large enough.
func (Driver) Wants(_ string, info inventory.Info) bool {
	return info.Executable && info.Size >= minSize
}

// Extract lists the main module, its dependencies with replacements applied,
// and the standard library as "stdlib". A main module that was built in its own
// working tree has no version; it is taken from the linker's flags where one
// stands there, else the module is left out, for nothing could be said about
// it. Programs of other languages have none.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	bi, err := read(f.Content)
	if err != nil || bi == nil {
		return nil, err
	}
	return packages(bi), nil
}

// read gives nil for what is no Go program.
func read(r io.Reader) (*debug.BuildInfo, error) {
	version, text, err := scan(r)
	switch {
	case errors.Is(err, errNoBuildInfo):
		return nil, nil
	case errors.Is(err, errOldFormat):
		at, ok := r.(io.ReaderAt)
		if !ok {
			return nil, err
		}
		return readOld(at)
	case err != nil:
		return nil, err
	}
	bi, err := debug.ParseBuildInfo(text)
	if err != nil {
		return nil, fmt.Errorf("its Go build information: %w", err)
	}
	bi.GoVersion = version
	return bi, nil
}

// readOld reads any place of the program: before Go 1.18 the information held
// pointers to strings elsewhere.
func readOld(at io.ReaderAt) (*debug.BuildInfo, error) {
	bi, err := buildinfo.Read(at)
	if err != nil {
		return nil, fmt.Errorf("its Go build information: %w", err)
	}
	return bi, nil
}

func packages(bi *debug.BuildInfo) []event.Package {
	out := make([]event.Package, 0, len(bi.Deps)+2)
	if v, ok := strings.CutPrefix(bi.GoVersion, "go"); ok {
		v, _, _ = strings.Cut(v, " ") // "go1.26.3 X:experiments"
		out = purl.Append(out, purl.Go("stdlib", v))
	}
	if version := mainVersion(bi); version != "" {
		out = purl.Append(out, purl.Go(bi.Main.Path, version))
	}
	for _, d := range bi.Deps {
		if d.Replace != nil && !isFolder(d.Replace.Path) { // a folder has no version of its own
			d = d.Replace
		}
		out = purl.Append(out, purl.Go(d.Path, d.Version))
	}
	return out
}

func isFolder(path string) bool {
	return strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") || strings.HasPrefix(path, "/")
}
