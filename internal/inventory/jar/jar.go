// Package jar finds Java artifacts: the archive itself, what was shaded into
// it, and archives inside it (Spring Boot, war, ear), to a bounded depth. What
// it believes, in this order: META-INF/maven/**/pom.properties, which Maven
// writes; the archive's name and its manifest (JAR File Specification), with
// the group from a table of builds that state none (content/programs). It
// never guesses: an artifact whose group nobody states is listed without one,
// and matches no advisory.
package jar

import (
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
	"github.com/breakwater-sec/breakwater/internal/inventory/zipdir"
)

// Limits of one archive with all that is nested in it.
const (
	maxDepth    = 4
	maxNested   = 64 << 20  // bytes of a compressed nested archive, which is held in memory
	maxInflated = 512 << 20 // bytes in all
	maxArchives = 20_000
	maxFile     = 256 << 10 // bytes of a manifest or pom.properties
)

// Driver is the inventory's driver for Java archives.
type Driver struct{ groups func() *Groups }

// New makes it; groups is asked when an archive states no group.
func New(groups func() *Groups) Driver { return Driver{groups} }

// Names are the extensions of archives that hold classes or other archives.
func (Driver) Names() []string {
	return []string{"*.jar", "*.war", "*.ear", "*.par", "*.hpi", "*.jpi", "*.lpkg"}
}

// Wants every such archive.
func (Driver) Wants(string, inventory.Info) bool { return true }

// Extract lists the artifacts. What cannot be read inside is an error beside
// what could be.
func (d Driver) Extract(f inventory.File) ([]event.Package, error) {
	w := &walk{groups: d.groups, left: maxArchives}
	if _, ok := f.Content.(io.ReaderAt); !ok && f.Size > zipdir.MaxBuffered {
		err := w.stream(f.Content, path.Base(f.Path))
		return w.packages(), errors.Join(err, w.err)
	}
	at, err := zipdir.Content(f)
	if err != nil {
		return nil, err
	}
	dir, err := zipdir.Open(at, f.Size, maxInflated)
	if err != nil {
		return nil, err
	}
	w.archive(dir, path.Base(f.Path), 0)
	return w.packages(), w.err
}

// walk is the way through one archive.
type walk struct {
	groups func() *Groups
	out    []event.Package
	left   int // archives
	err    error
}

func (w *walk) fail(name string, err error) {
	if w.err == nil {
		if !purl.Valid(name) {
			name = "an entry"
		}
		w.err = errors.New(name + ": " + err.Error())
	}
}

func (w *walk) packages() []event.Package {
	seen := map[string]bool{}
	out := w.out[:0]
	for _, p := range w.out {
		if !seen[p.PURL] {
			seen[p.PURL] = true
			out = append(out, p)
		}
	}
	return out
}

// found is what one archive says about itself.
type found struct {
	file     named
	folders  []string // that would tell a group by the table
	seen     []bool   // of folders
	poms     []coordinates
	manifest manifest
}

func (w *walk) look(name string) *found {
	file := parseName(name)
	folders := w.groups().folders(file.artifact)
	return &found{file: file, folders: folders, seen: make([]bool, len(folders))}
}

// wanted is asked for every entry.
func (f *found) wanted(entry []byte) bool {
	for i, folder := range f.folders {
		f.seen[i] = f.seen[i] || bytes.HasPrefix(entry, []byte(folder))
	}
	return string(entry) == manifestName || bytes.HasPrefix(entry, mavenPrefix) && bytes.HasSuffix(entry, pomSuffix) || isArchive(entry)
}

// take reads a manifest or a pom.properties.
func (f *found) take(name string, data []byte) {
	if name == manifestName {
		f.manifest = parseManifest(data)
	} else {
		f.poms = append(f.poms, parsePom(data))
	}
}

// archive lists one archive and those inside it.
func (w *walk) archive(dir *zipdir.Dir, name string, depth int) {
	if w.left--; w.left < 0 {
		w.fail(name, errors.New("holds too many archives; the rest was not read"))
		return
	}
	f := w.look(name)
	err := dir.Each(f.wanted, func(e zipdir.Entry) error {
		if isArchive([]byte(e.Name)) {
			w.nested(dir, e, depth)
			return nil
		}
		data, err := dir.Read(e, maxFile)
		if err != nil {
			w.fail(e.Name, err)
			return nil
		}
		f.take(e.Name, data)
		return nil
	})
	if err != nil {
		w.fail(name, err)
	}
	w.conclude(f)
}

// stream is archive for one that is too large for memory: only what is nested
// in it is held, one after the other.
func (w *walk) stream(r io.Reader, name string) error {
	f := w.look(name)
	err := zipdir.Stream(r, 2*maxInflated, f.wanted, func(name string, read func(int64) ([]byte, error)) error {
		if !isArchive([]byte(name)) {
			data, err := read(maxFile)
			if err != nil {
				w.fail(name, err)
			}
			f.take(name, data)
			return nil
		}
		data, err := read(maxNested)
		if err != nil {
			w.fail(name, err)
			return nil
		}
		dir, err := zipdir.Open(bytes.NewReader(data), int64(len(data)), maxInflated)
		if err != nil {
			w.fail(name, err)
			return nil
		}
		w.archive(dir, path.Base(name), 1)
		return nil
	})
	if errors.Is(err, zipdir.ErrNotZip) {
		return err
	}
	w.conclude(f)
	return err
}

// conclude adds what the poms say and, if none is about the archive, what else
// does.
func (w *walk) conclude(f *found) {
	for _, c := range f.poms {
		w.add(c, f.manifest, c.is(f.file))
	}
	if slices.ContainsFunc(f.poms, func(c coordinates) bool { return c.is(f.file) }) {
		return
	}
	// Beside the poms of others, only what states its group is one more artifact:
	// distributions rename archives.
	if c := w.unstated(f.file, f.manifest, f.seen); c.group != "" || len(f.poms) == 0 {
		w.add(c, f.manifest, true)
	}
}

func (w *walk) add(c coordinates, m manifest, main bool) {
	p := purl.Maven(c.group, c.artifact, c.version)
	if p.Name != "" && main && m.license != "" {
		p.Licenses = []string{m.license}
	}
	w.out = purl.Append(w.out, p)
}

func (w *walk) nested(dir *zipdir.Dir, e zipdir.Entry, depth int) {
	if depth+1 >= maxDepth {
		w.fail(e.Name, errors.New("lies too deep inside of other archives; it was not read"))
		return
	}
	inner, err := dir.Nested(e, maxNested)
	if err != nil {
		w.fail(e.Name, err)
		return
	}
	w.archive(inner, path.Base(e.Name), depth+1)
	dir.Spent(inner)
}

const manifestName = "META-INF/MANIFEST.MF"

var pomSuffix, mavenPrefix = []byte("/pom.properties"), []byte("META-INF/maven/")

func isArchive(name []byte) bool {
	i := bytes.LastIndexByte(name, '.')
	if i < 0 || len(name)-i > 5 {
		return false
	}
	switch string(name[i:]) {
	case ".jar", ".war", ".ear", ".par", ".hpi", ".jpi", ".lpkg":
		return true
	}
	return false
}

// unstated is the archive itself when no pom.properties is about it. Only an
// archive that says its version somewhere is an artifact.
func (w *walk) unstated(file named, m manifest, seen []bool) coordinates {
	c := file.coordinates
	if c.version == "" {
		if c.version = m.version; c.version == "" {
			return coordinates{}
		}
		if m.title != "" && !strings.ContainsAny(m.title, " /:") {
			c.artifact = m.title
		}
	}
	if c.group = w.groups().group(file.artifact, seen); c.group == "" {
		c.group = m.group(c.artifact)
	}
	return c
}
