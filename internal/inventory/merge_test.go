package inventory_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
)

// f merges layers written as lines "path: content", "path" for a directory
// when it ends in /, "path -> target" for symlinks, "path => target" for hard
// links, and returns packages as "name version @layer".
func merged(t *testing.T, layers ...string) ([]string, []string) {
	t.Helper()
	e := drivers.All(inventory.Key{1})
	var ls []*inventory.Layer
	for _, text := range layers {
		l := e.NewLayer()
		for line := range strings.Lines(text) {
			visit(l, strings.TrimSpace(line))
		}
		ls = append(ls, l)
	}
	r := e.Merge(ls)
	if again := e.Merge(restored(t, ls)); !reflect.DeepEqual(again, r) {
		t.Errorf("kept and restored layers give\n%+v\ninstead of\n%+v", again, r)
	}
	var out []string
	for _, p := range r.Packages {
		out = append(out, fmt.Sprintf("%s %s @%d", p.Name, p.Version, p.LayerIndex))
	}
	return out, r.Gaps
}

// restored are layers as another process would have them.
func restored(t *testing.T, layers []*inventory.Layer) (out []*inventory.Layer) {
	t.Helper()
	e := drivers.All(inventory.Key{1})
	for _, l := range layers {
		data, err := l.Keep()
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.Restore(data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, again)
	}
	return out
}

func visit(l *inventory.Layer, line string) {
	if path, target, ok := strings.Cut(line, " -> "); ok {
		l.Visit(inventory.Entry{Path: path, Kind: inventory.Symlink, Link: target}, nil)
	} else if path, target, ok := strings.Cut(line, " => "); ok {
		l.Visit(inventory.Entry{Path: path, Kind: inventory.Hardlink, Link: target}, nil)
	} else if path, ok := strings.CutSuffix(line, "/"); ok {
		l.Visit(inventory.Entry{Path: path, Kind: inventory.Dir}, nil)
	} else if path, content, ok := strings.Cut(line, ": "); ok {
		content = strings.ReplaceAll(content, `\n`, "\n")
		l.Visit(inventory.Entry{Path: path, Size: int64(len(content))}, strings.NewReader(content))
	} else if line != "" {
		l.Visit(inventory.Entry{Path: line}, strings.NewReader(""))
	}
}

func status(packages ...string) string {
	var b strings.Builder
	b.WriteString("var/lib/dpkg/status: ")
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "=")
		fmt.Fprintf(&b, `Package: %s\nStatus: install ok installed\nVersion: %s\n\n`, name, version)
	}
	return b.String() + "\n"
}

const (
	npmA1 = `app/node_modules/a/package.json: {"name":"a","version":"1"}` + "\n"
	npmA2 = `app/node_modules/a/package.json: {"name":"a","version":"2"}` + "\n"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers []string
		want   []string
	}{
		{"the layer that added it, not the one that rewrote status",
			[]string{status("a=1"), "etc/x: y\n", status("a=1", "b=1"), status("a=1", "b=2")}, []string{"a 1 @0", "b 2 @3"}},
		{"removed and come back belongs to the later layer",
			[]string{status("a=1"), status("b=1"), status("a=1", "b=1")}, []string{"a 1 @2", "b 1 @1"}},
		{"whiteout of the file", []string{npmA1, "app/node_modules/a/.wh.package.json"}, nil},
		{"whiteout of a directory above it", []string{npmA1, "app/.wh.node_modules"}, nil},
		{"whiteout at the root", []string{npmA1, ".wh.app"}, nil},
		{"opaque directory", []string{npmA1, "app/.wh..wh..opq\napp/node_modules/"}, nil},
		{"opaque root", []string{npmA1, ".wh..wh..opq"}, nil},
		{"opaque and new in one layer", []string{npmA1, "app/.wh..wh..opq\n" + npmA1}, []string{"a 1 @1"}},
		{"whiteout of another name", []string{npmA1, "app/node_modules/.wh.b\napp/node_modules/a/.wh.package"}, []string{"a 1 @0"}},
		{"whiteout, then installed again", []string{npmA1, "app/.wh.node_modules", npmA1}, []string{"a 1 @2"}},
		{"a newer version over it", []string{npmA1, npmA2}, []string{"a 2 @1"}},
		{"the same again", []string{npmA1, "x/", npmA1}, []string{"a 1 @0"}},
		{"replaced by an unreadable file", []string{npmA1, "app/node_modules/a/package.json: {"}, nil},
		{"replaced by a symlink", []string{npmA1, "app/node_modules/a/package.json -> /dev/null"}, nil},
		{"directory replaced by a file", []string{npmA1, "app/node_modules: x"}, nil},
		{"directory replaced by a symlink", []string{npmA1, "app -> /opt"}, nil},
		{"directory repeated", []string{npmA1, "app/\napp/node_modules/\napp/node_modules/a/"}, []string{"a 1 @0"}},
		{"the last of two entries counts", []string{npmA1 + npmA2}, []string{"a 2 @0"}},
		{"hard link to read evidence", []string{npmA1 + "srv/node_modules/a/package.json => app/node_modules/a/package.json"}, []string{"a 1 @0", "a 1 @0"}},
		{"aufs bookkeeping hides nothing", []string{npmA1, ".wh..wh.plnk\n.wh..wh.aufs\napp/.wh."}, []string{"a 1 @0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := merged(t, c.layers...)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatCannotBeReadIsAGap(t *testing.T) {
	for _, layer := range []string{
		"var/lib/dpkg/status -> /srv/status",
		"var/lib/dpkg/status => srv/status",
		"app/node_modules/a/package.json: {",
	} {
		if _, gaps := merged(t, layer); len(gaps) != 1 || !strings.HasPrefix(gaps[0], "layer 0: ") {
			t.Errorf("%q: gaps %q", layer, gaps)
		}
	}
	if _, gaps := merged(t, "etc/os-release -> ../usr/lib/os-release"); len(gaps) > 0 {
		t.Errorf("the usual link is a gap: %q", gaps)
	}
	if _, gaps := merged(t, strings.Repeat("app/node_modules/a/package.json: {\n", 1000)); len(gaps) != 101 || !strings.Contains(gaps[100], "900 more") {
		t.Errorf("%d gaps, the last %q", len(gaps), gaps[len(gaps)-1])
	}
}

func TestDistro(t *testing.T) {
	e := drivers.All(inventory.Key{1})
	base, top := e.NewLayer(), e.NewLayer()
	visit(base, `usr/lib/os-release: ID=debian\nVERSION_ID="12"\nPRETTY_NAME='Debian \"x\"'\nVERSION_CODENAME=bookworm\n#ID=no`)
	visit(base, "etc/os-release -> ../usr/lib/os-release")
	visit(top, status("a=1"))
	r := e.Merge([]*inventory.Layer{base, top})
	if want := (inventory.Distro{ID: "debian", Version: "12", Codename: "bookworm", Name: `Debian "x"`}); r.Distro != want {
		t.Errorf("got %+v", r.Distro)
	}
	if p := r.Packages[0]; p.Ecosystem != "Debian:12" || p.PURL != "pkg:deb/debian/a@1?distro=debian-12" {
		t.Errorf("got %+v", p)
	}
}

// FuzzRestore: what a taken-over child sends is refused or harmless.
func FuzzRestore(f *testing.F) {
	e := drivers.All(inventory.Key{1})
	l := e.NewLayer()
	visit(l, status("a=1"))
	visit(l, "dir/.wh.gone")
	seed, err := l.Keep()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f")) // more evidence than there can be
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := e.Restore(data); err == nil {
			e.Merge([]*inventory.Layer{l, l})
		}
	})
}
