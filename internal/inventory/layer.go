package inventory

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Limits of one image. They bound what a hostile image can make the engine
// keep; what lies beyond them becomes a gap.
const (
	maxPackages = 200_000 // per layer
	maxGaps     = 100     // per layer; the rest is counted
)

// Kind is the kind of an entry of a layer.
type Kind uint8

// The kinds.
const (
	Regular Kind = iota
	Dir
	Symlink
	Hardlink
	Other
)

// Entry is one entry of a layer, whiteouts included.
type Entry struct {
	Path       string // clean, relative to the image's root
	Kind       Kind
	Link       string
	Size       int64
	Executable bool
}

// Engine makes layers and merges them. Use one per image.
type Engine struct {
	drivers []Driver
	index   index // of drivers
	release Release
	key     Key
}

// Release reads os-release files, the one kind of evidence that yields a
// distribution instead of packages.
type Release interface {
	Wants(path string) bool
	Extract(f File) (Distro, error)
}

// NewEngine makes an engine of drivers: those that name their files are asked
// first, else in this order. Layers that are merged together come from engines
// with one key.
func NewEngine(key Key, release Release, drivers []Driver) *Engine {
	return &Engine{drivers: drivers, index: newIndex(drivers), release: release, key: key}
}

// Layer collects one layer. It is not safe for concurrent use, but several
// layers of one engine are independent.
type Layer struct {
	engine *Engine
	found  map[string]*evidence
	// present holds the hash of every path, so that a later layer is known to
	// replace a file of an earlier one without keeping all names: one for
	// things that are not directories, one for directories. Sorted by Merge.
	present, dirs []uint64
	removed       map[string]bool // whiteouts
	opaque        map[string]bool // directories that hide everything below them
	packages      int
	claims        claims
	gaps          []string
	moreGaps      int
}

// evidence is what one file of a layer proves.
type evidence struct {
	driver   Driver
	packages []event.Package
	distro   *Distro
	owner    string // name of the distribution's package that installed the file
}

// NewLayer starts a layer.
func (e *Engine) NewLayer() *Layer {
	return &Layer{engine: e, found: map[string]*evidence{}, removed: map[string]bool{}, opaque: map[string]bool{}}
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// Visit takes one entry, in the layer's order; content is nil unless it is a
// regular file. It fails for no content: what cannot be read becomes a gap.
func (l *Layer) Visit(e Entry, content io.Reader) {
	dir, base := split(e.Path)
	if strings.HasPrefix(base, whiteout) {
		l.whiteout(dir, base)
		return
	}
	h := l.engine.key.sum(e.Path)
	if e.Kind == Dir {
		l.dirs = append(l.dirs, h)
		return
	}
	l.present = append(l.present, h)
	delete(l.found, e.Path) // the last of two entries with one name counts
	switch e.Kind {
	case Regular:
		l.file(File{Path: e.Path, Info: Info{Size: e.Size, Executable: e.Executable}, Content: content})
	case Hardlink:
		l.hardlink(e)
	case Symlink:
		l.symlink(e)
	}
}

func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

func (l *Layer) whiteout(dir, base string) {
	switch {
	case base == opaque:
		l.opaque[dir] = true
	case strings.HasPrefix(base, whiteout+whiteout), base == whiteout:
		// aufs bookkeeping: hides nothing
	case dir == "":
		l.removed[base[len(whiteout):]] = true
	default:
		l.removed[dir+"/"+base[len(whiteout):]] = true
	}
}

func (l *Layer) file(f File) {
	if l.engine.release.Wants(f.Path) {
		d, err := l.engine.release.Extract(f)
		if err != nil {
			l.gap("%s: %v", f.Path, err)
			return
		}
		l.found[f.Path] = &evidence{distro: &d}
		return
	}
	if d := l.engine.index.find(f.Path, f.Info); d != nil {
		l.extract(d, f)
	}
}

func (l *Layer) extract(d Driver, f File) {
	packages, err := l.ask(d, f)
	if err != nil {
		l.gap("%s: %v", f.Path, err)
	}
	if room := maxPackages - l.packages; len(packages) > room {
		l.gap("%s: a layer of this image proves more than %d packages; the rest is not listed", f.Path, maxPackages)
		packages = packages[:room]
	}
	l.packages += len(packages)
	if len(packages) > 0 {
		l.found[f.Path] = &evidence{driver: d, packages: packages}
	}
}

func (l *Layer) ask(d Driver, f File) ([]event.Package, error) {
	if c, ok := d.(Claimer); ok {
		return c.ExtractClaims(f, l.claim)
	}
	return d.Extract(f)
}

// hardlink gives a second name of a file the evidence of the first, when the
// first was read; a link that should be evidence and is not becomes a gap.
func (l *Layer) hardlink(e Entry) {
	target := strings.TrimPrefix(strings.TrimPrefix(e.Link, "."), "/")
	if ev, ok := l.found[target]; ok {
		l.found[e.Path] = ev
		return
	}
	if l.wanted(e.Path) {
		l.gap("%s: is a hard link to %q, which was not read as evidence", e.Path, e.Link)
	}
}

// symlink: links are not followed. What they lead to is read in its own place
// (distributions link etc/os-release to usr/lib/os-release, and jars to jars),
// unless it would be no evidence there.
func (l *Layer) symlink(e Entry) {
	if l.wanted(e.Path) && !l.engine.release.Wants(e.Path) && !l.wanted(target(e.Path, e.Link)) {
		l.gap("%s: is a symbolic link to %q, which was not followed", e.Path, e.Link)
	}
}

// target is the path that a link at file leads to.
func target(file, link string) string {
	if !strings.HasPrefix(link, "/") {
		link = path.Dir("/"+file) + "/" + link
	}
	return strings.TrimPrefix(path.Clean("/"+link), "/")
}

// Wants says whether the content of a regular file is evidence for anybody.
func (e *Engine) Wants(path string, info Info) bool {
	return e.release.Wants(path) || e.index.find(path, info) != nil
}

func (l *Layer) wanted(path string) bool {
	return l.engine.index.find(path, Info{}) != nil
}

func (l *Layer) gap(format string, args ...any) {
	if len(l.gaps) == maxGaps {
		l.moreGaps++
		return
	}
	l.gaps = append(l.gaps, fmt.Sprintf(format, args...))
}

// trail is a path with the folders above it, each with its hash: it is looked
// for in many layers.
type trail struct {
	path   string
	names  []string // the folders, the nearest first; the root is ""
	hashes []uint64 // of path, then of the folders but the root
}

func (k *Key) trail(path string) trail {
	t := trail{path: path, names: make([]string, 0, 8), hashes: append(make([]uint64, 0, 8), k.sum(path))}
	for dir := path; dir != ""; {
		dir, _ = split(dir)
		t.names = append(t.names, dir)
		if dir != "" {
			t.hashes = append(t.hashes, k.sum(dir))
		}
	}
	return t
}

// covers reports whether this layer hides a path from the layers below it.
func (l *Layer) covers(t trail) bool {
	if l.removed[t.path] || has(l.present, t.hashes[0]) || has(l.dirs, t.hashes[0]) {
		return true
	}
	for i, dir := range t.names {
		if l.opaque[dir] || dir != "" && (l.removed[dir] || has(l.present, t.hashes[i+1])) {
			return true
		}
	}
	return false
}

// removes is covers without replacing: the file was gone after this layer.
func (l *Layer) removes(path string) bool {
	if l.removed[path] {
		return true
	}
	for dir := path; dir != ""; {
		dir, _ = split(dir)
		if l.opaque[dir] || l.removed[dir] {
			return true
		}
	}
	return false
}

func has(sorted []uint64, hash uint64) bool {
	_, ok := slices.BinarySearch(sorted, hash)
	return ok
}
