package inventory_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
)

// greedy wants whatever it is asked for, and notes it.
type greedy struct {
	inventory.Driver
	asked *[]string
}

func (g greedy) Wants(path string, _ inventory.Info) bool {
	*g.asked = append(*g.asked, path)
	return true
}

func (greedy) Extract(inventory.File) ([]event.Package, error) { return nil, nil }

type named struct{ greedy }

func (named) Names() []string { return []string{"Cargo.lock", "*.jar"} }

// TestNamedDriversAreAskedForTheirFilesOnly: by base name and last extension.
func TestNamedDriversAreAskedForTheirFilesOnly(t *testing.T) {
	var asked []string
	e := inventory.NewEngine(inventory.Key{}, osrelease.Reader{}, []inventory.Driver{named{greedy{asked: &asked}}})
	for _, path := range []string{"Cargo.lock", "a/Cargo.lock", "a/b.jar", "a/b.c.jar", ".jar", "a/jar", "a.jar/b", "a/xCargo.lock", "a/Cargo.lock.orig", ""} {
		if got, want := e.Wants(path, inventory.Info{}), strings.HasSuffix(path, ".jar") || strings.HasSuffix("/"+path, "/Cargo.lock"); got != want {
			t.Errorf("%q: wanted %v", path, got)
		}
	}
	if len(asked) != 5 {
		t.Errorf("asked for %q", asked)
	}
}

// TestALinkToEvidenceIsNoGap: what it leads to is read in its own place.
func TestALinkToEvidenceIsNoGap(t *testing.T) {
	for link, gap := range map[string]bool{"b-1.0.jar": false, "../lib/b.jar": false, "/opt/b.jar": false, "data": true, "../../../../etc/passwd": true, "": true} {
		var asked []string
		e := inventory.NewEngine(inventory.Key{}, osrelease.Reader{}, []inventory.Driver{named{greedy{asked: &asked}}})
		l := e.NewLayer()
		l.Visit(inventory.Entry{Path: "usr/share/java/b.jar", Kind: inventory.Symlink, Link: link}, nil)
		if r := e.Merge([]*inventory.Layer{l}); len(r.Gaps) > 0 != gap {
			t.Errorf("link to %q: %q", link, r.Gaps)
		}
	}
}
