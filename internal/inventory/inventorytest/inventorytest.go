// Package inventorytest is the conformance suite of the inventory's drivers:
// what every driver must do, whatever its ecosystem.
package inventorytest

import (
	"bytes"
	"io"
	"path"
	"slices"
	"testing"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
)

// Case is a file that a driver must find packages in.
type Case struct {
	Path       string
	Content    []byte
	Executable bool
	// Want are the packages as "name version", in any order.
	Want []string
	// Locked: the file is a lock file or manifest, and its packages say so.
	Locked bool
}

// Run checks a driver with files that are evidence and paths that are not.
func Run(t *testing.T, d inventory.Driver, cases []Case, unwanted []string) {
	t.Helper()
	for _, file := range unwanted {
		if named(d, file) && d.Wants(file, inventory.Info{Size: 1000}) {
			t.Errorf("wants %q", file)
		}
	}
	for _, c := range cases {
		t.Run(c.Path, func(t *testing.T) {
			finds(t, d, c)
			doesNotAllocateToDecide(t, d, c)
			survivesCuts(t, d, c)
			refusesGiants(t, d, c)
		})
	}
}

func (c Case) file(content []byte) inventory.File {
	return inventory.File{
		Path: c.Path, Info: inventory.Info{Size: int64(len(content)), Executable: c.Executable},
		Content: stream{bytes.NewReader(content)}, // a stream, as the engine's export is
	}
}

type stream struct{ io.Reader }

func finds(t *testing.T, d inventory.Driver, c Case) {
	f := c.file(c.Content)
	if !named(d, f.Path) || !d.Wants(f.Path, f.Info) {
		t.Fatalf("does not want %q, or does not name it", f.Path)
	}
	packages, err := d.Extract(f)
	if err != nil {
		t.Errorf("Extract: %v", err)
	}
	got := map[string]bool{}
	for _, p := range packages {
		got[p.Name+" "+p.Version] = true
		check(t, d, p)
		if p.Locked != c.Locked {
			t.Errorf("%s %s: locked %v, want %v", p.Name, p.Version, p.Locked, c.Locked)
		}
	}
	for _, w := range c.Want {
		if !got[w] {
			t.Errorf("does not find %q", w)
		}
	}
	if len(got) != len(c.Want) {
		t.Errorf("found %d packages, want %d: %v", len(got), len(c.Want), got)
	}
}

// named says whether the engine would ask d for the file.
func named(d inventory.Driver, file string) bool {
	n, ok := d.(inventory.Named)
	if !ok {
		return true
	}
	base := path.Base(file)
	names := n.Names()
	return slices.Contains(names, base) || slices.Contains(names, "*"+path.Ext(base))
}

// Fuzz feeds a driver with content for the file, as a stream and readable
// at offsets: whatever it is, no panic, and no package without a name, a
// version and a purl that reads back as it is.
func Fuzz(f *testing.F, d inventory.Driver, file string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
		f.Add([]byte(s[:len(s)/2]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, content := range []io.Reader{stream{bytes.NewReader(data)}, bytes.NewReader(data)} {
			packages, _ := d.Extract(inventory.File{Path: file, Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: content})
			for _, p := range packages {
				check(t, d, p)
			}
		}
	})
}

// check: name, version, ecosystem and a canonical purl.
func check(t *testing.T, d inventory.Driver, p event.Package) {
	if placer, ok := d.(inventory.Placer); ok {
		placer.Place(&p, inventory.Distro{ID: "debian", Version: "12"})
	}
	if p.Name == "" || p.Version == "" || p.Ecosystem == "" {
		t.Errorf("incomplete: %+v", p)
	}
	purl, err := packageurl.FromString(p.PURL)
	if err != nil {
		t.Errorf("purl %q: %v", p.PURL, err)
	} else if epoch := purl.Qualifiers.Map()["epoch"]; purl.ToString() != p.PURL || purl.Version != p.Version && epoch+":"+purl.Version != p.Version {
		t.Errorf("purl %q is not canonical for version %q", p.PURL, p.Version)
	}
}

func doesNotAllocateToDecide(t *testing.T, d inventory.Driver, c Case) {
	f := c.file(c.Content)
	if n := testing.AllocsPerRun(10, func() { d.Wants(f.Path, f.Info) }); n > 0 {
		t.Errorf("Wants allocates %v times", n)
	}
}

// survivesCuts: a file that ends anywhere gives packages or an error, never a
// panic, and never a package without name or version.
func survivesCuts(t *testing.T, d inventory.Driver, c Case) {
	step := max(len(c.Content)/200, 1)
	for n := 0; n < len(c.Content); n += step {
		packages, _ := d.Extract(c.file(c.Content[:n]))
		f := c.file(c.Content[:n])
		f.Size = int64(len(c.Content)) // what the header promises
		more, _ := d.Extract(f)
		for _, p := range append(packages, more...) {
			if p.Name == "" || p.Version == "" {
				t.Fatalf("cut after %d bytes: incomplete %+v", n, p)
			}
		}
	}
}

// zeros is endless content.
type zeros struct{ read int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read += int64(len(p))
	return len(p), nil
}

// refusesGiants: 10 GB under a wanted name are not taken into memory, and if
// the name alone makes it evidence, that is an error and so a gap.
func refusesGiants(t *testing.T, d inventory.Driver, c Case) {
	z := &zeros{}
	f := inventory.File{Path: c.Path, Info: inventory.Info{Size: 10 << 30, Executable: c.Executable}, Content: z}
	packages, err := d.Extract(f)
	if len(packages) > 0 {
		t.Errorf("found %d packages in zeros", len(packages))
	}
	if err == nil && !c.Executable {
		t.Error("a file too large to read gave no error")
	}
	if z.read > 64<<20 {
		t.Errorf("read %d bytes of a file of zeros", z.read)
	}
}
