// Package lockfile reads what lock files have in common: the regular parts of
// TOML and YAML that programs write, by the line, and where a lock file is
// nobody's. It is no parser of either language: what people may write by hand
// and tools do not is skipped, never misread as another value.
package lockfile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
)

// MaxSize is the largest lock file that is read, in bytes. The largest known
// ones, of huge monorepos, have about 10 MB.
const MaxSize = 32 << 20

// Read takes a lock file into memory.
func Read(f inventory.File) ([]byte, error) { return inventory.ReadAll(f, MaxSize) }

// Noise says whether a lock file at path is not this image's: it lies inside an
// installed package, a package cache, documentation, tests or examples. Such a
// file says what the authors of somebody else's package used while they worked
// on it.
func Noise(path string) bool {
	for path != "" {
		dir, rest, more := strings.Cut(path, "/")
		if !more {
			return false
		}
		if foreign(dir) || dir == "pkg" && strings.HasPrefix(rest, "mod/") {
			return true
		}
		path = rest
	}
	return false
}

func foreign(dir string) bool {
	switch dir {
	case "node_modules", "bower_components", "vendor", "site-packages", "dist-packages", "gems", "Pods",
		".cargo", ".rustup", ".m2", ".gradle", ".nuget", ".npm", ".pnpm-store", ".cache", ".yarn", ".pub-cache", ".stack", ".cabal",
		"test", "tests", "__tests__", "testdata", "testing", "spec", "specs", "fixtures", "__fixtures__", "example", "examples", "samples",
		"doc", "docs", ".git", "lost+found":
		return true
	}
	return false
}

// Locked marks packages as what somebody wanted, drops those without a name,
// and lists each once.
func Locked(packages []event.Package) []event.Package {
	out := slices.DeleteFunc(packages, func(p event.Package) bool { return p.Name == "" })
	slices.SortStableFunc(out, func(a, b event.Package) int { return cmp.Compare(a.PURL, b.PURL) })
	out = slices.CompactFunc(out, func(a, b event.Package) bool { return a.PURL == b.PURL })
	for i := range out {
		out[i].Locked = true
	}
	return out
}
