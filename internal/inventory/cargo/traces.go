package cargo

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Traces collects the crates whose source paths stand in a program: the Rust
// compiler writes the path of each place that can panic, and Cargo keeps the
// sources of a registry's crates in .cargo/registry/src/REGISTRY/NAME-VERSION.
// Crates that cannot panic, and programs built with other paths, leave no trace.
type Traces struct {
	seen map[string]bool
	out  []event.Package
	hits int
}

const (
	registry  = "/registry/src/"
	maxTrace  = 256 // bytes behind registry that are looked at
	maxHits   = 200_000
	maxCrates = 5000
	// TraceOverlap is how many bytes of one window the next must repeat.
	TraceOverlap = len(registry) + maxTrace
)

// Window takes the next part of the program.
func (t *Traces) Window(data []byte) {
	for t.hits < maxHits && len(t.out) < maxCrates {
		i := bytes.Index(data, []byte(registry))
		if i < 0 {
			return
		}
		t.hits++
		data = data[i+len(registry):]
		t.trace(data[:min(len(data), maxTrace)])
	}
}

// trace reads REGISTRY/NAME-VERSION/.
func (t *Traces) trace(path []byte) {
	_, rest, _ := bytes.Cut(path, []byte("/"))
	crate, _, ok := bytes.Cut(rest, []byte("/"))
	if !ok || t.seen[string(crate)] {
		return
	}
	name, version := splitCrate(string(crate))
	p := purl.Cargo(name, version)
	if p.Name == "" {
		return
	}
	if t.seen == nil {
		t.seen = map[string]bool{}
	}
	t.seen[string(crate)] = true
	t.out = append(t.out, p)
}

// splitCrate cuts before the first dash behind which a whole version stands.
func splitCrate(crate string) (name, version string) {
	for i := 1; i+1 < len(crate); i++ {
		if crate[i] != '-' || crate[i+1] < '0' || crate[i+1] > '9' {
			continue
		}
		if v := crate[i+1:]; semver.IsValid("v"+v) && strings.Count(v, ".") >= 2 && isCrate(crate[:i]) {
			return crate[:i], v
		}
	}
	return "", ""
}

func isCrate(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// Packages are the crates found, sorted.
func (t *Traces) Packages() []event.Package {
	slices.SortFunc(t.out, func(a, b event.Package) int { return strings.Compare(a.PURL, b.PURL) })
	return t.out
}
