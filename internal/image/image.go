// Package image reads container images: what an image is made of, wherever it
// lies, and every entry of every layer exactly once.
//
// An archive is read as a whole, from a file that can be read at any offset
// ([ReadArchive]: layers in parallel) or from a stream ([ReadStream]: one pass,
// nothing kept but metadata): `docker save`'s old form (<id>/layer.tar beside a
// config file), its newer one, and OCI layouts. All other sources (engines'
// stores, registries, layouts, folders) give a [Source]: the configuration,
// and each layer as a file, a stream or a [Folder], for a [Reader] in another
// process. Layers may be plain, gzip or zstd.
//
// Everything here is hostile input. Nothing touches the host's file system:
// names are only cleaned and compared, links are never followed on a disk, and
// every count, size and depth has a limit. The config's SHA-256 must be the
// one the archive names. Whether each layer's content is what the config names
// is checked on demand ([Options].Verify): hashing costs three times as much
// as all the rest together (measured: 0.44 of 0.69 s of CPU for 750 MB, SHA
// instructions included), and content that is not read needs not be fetched at
// all: without Verify, plain layers of a file are skipped through.
package image

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Limits bound what one image may cost. A zero field means its default.
type Limits struct {
	Entries  int64 // archive entries over all layers
	Bytes    int64 // decompressed bytes over all layers
	Layers   int
	Metadata int64 // bytes of one manifest or config
	Path     int   // bytes of one entry's name; longer ones are skipped, with a gap
	Depth    int   // directories in one entry's name; deeper ones likewise
}

// DefaultLimits fit every image seen in the wild with a wide margin: 4 million
// entries, 64 GiB of content, 512 layers (engines stop at 127).
func DefaultLimits() Limits {
	return Limits{Entries: 4_000_000, Bytes: 64 << 30, Layers: 512, Metadata: 8 << 20, Path: 4096, Depth: 256}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.Entries = orDefault(l.Entries, d.Entries)
	l.Bytes = orDefault(l.Bytes, d.Bytes)
	l.Layers = orDefault(l.Layers, d.Layers)
	l.Metadata = orDefault(l.Metadata, d.Metadata)
	l.Path = orDefault(l.Path, d.Path)
	l.Depth = orDefault(l.Depth, d.Depth)
	return l
}

func orDefault[T int | int64](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// Options say what to read.
type Options struct {
	// Want selects one image of an archive that holds several: a tag as the
	// archive writes it, or a config digest. Empty: the archive must hold one.
	Want string
	// Verify hashes every layer and refuses the image when one is not what the
	// config names. Without it, layers carry the diff ids that the config
	// names: enough for an engine's own export, and for an archive that an
	// engine will check when it loads it, but not for keeping the result under
	// the image's digest.
	Verify bool
	// Apart leaves the hashing of what can be hashed without being read into to the
	// caller: with Verify, plain layers of an archive's file are not hashed here,
	// and carry their Extent for [Proof].
	Apart bool
	// Platform chooses from an index of several; empty means this program's own.
	Platform string
	// Known, when set, is told the image's configuration and layers before any
	// layer is read, and says which of them need not be: those have no Sink. It
	// is not asked by ReadStream, which reads what comes.
	Known  func(*Image) ([]bool, error)
	Limits Limits
	// Progress is told about the work done so far, one call after another, never
	// backwards; it must be quick. Nil is allowed.
	Progress func(Progress)
}

// Progress is how far a reader came.
type Progress struct {
	Layers int   `json:"layers"` // finished
	Total  int   `json:"total"`  // 0 while unknown
	Bytes  int64 `json:"bytes"`  // decompressed layer bytes read
}

// Image is one image of an archive, read to the end.
type Image struct {
	Digest   string // of the config: "sha256:" + 64 hex
	Platform string // os/arch[/variant]
	Tags     []string
	Config   Config
	ConfigAt Extent // of the config in the archive's file
	Layers   []Layer
	Gaps     []string // what was skipped, one sentence each
}

// Extent is where something lies in an archive's file; the zero value when the
// archive was read as a stream.
type Extent struct{ Offset, Size int64 }

// Layer is one layer of an image, the base first.
type Layer struct {
	DiffID string
	Step   string // the build step, from the config's history
	Size   int64  // decompressed bytes
	Files  int    // entries that are not directories
	At     Extent // of its bytes in the archive's file
	Plain  bool   // they are not compressed: their digest is the diff id
	Sink   Sink   `json:"-"` // what the caller's newSink returned for it; nil when it was known
}

// Kind is the kind of an entry.
type Kind uint8

// The kinds.
const (
	File Kind = iota
	Dir
	Symlink
	Hardlink
	Other // devices, pipes
)

// Entry is one entry of a layer. Whiteouts are entries like any other.
type Entry struct {
	Path string // clean, relative to the image's root, never empty, never above it
	Kind Kind
	Link string // target of links, as written
	Size int64
	Mode uint32 // permission bits
}

// Sink takes the entries of one layer in the archive's order, in one
// goroutine. Content is only valid during the call; it is nil unless the entry
// is a File, need not be read to the end, and implements io.ReaderAt where the
// source allows it. An error ends the reading of the whole image.
type Sink interface {
	Visit(e Entry, content io.Reader) error
}

// A LimitError says which limit an image exceeded.
type LimitError struct {
	What  string
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("holds more than %d %s, the limit of this scanner", e.Limit, e.What)
}

// reading is the state that all layers of one image share.
type reading struct {
	ctx      context.Context
	limits   Limits
	verify   bool
	apart    bool // plain layers are for the caller to hash
	progress func(Progress)
	telling  sync.Mutex // held while progress is told: layers end at the same moment
	entries  atomic.Int64
	bytes    atomic.Int64
	layers   atomic.Int64
	total    atomic.Int64
	skipped  atomic.Int64 // entries with names beyond the limits
}

func newReading(ctx context.Context, o Options) *reading {
	return &reading{ctx: ctx, limits: o.Limits.withDefaults(), verify: o.Verify, apart: o.Apart, progress: o.Progress}
}

func (s *reading) addBytes(n int64) error {
	if s.bytes.Add(n) > s.limits.Bytes {
		return &LimitError{"bytes of layer content", s.limits.Bytes}
	}
	return s.ctx.Err()
}

func (s *reading) addEntry() error {
	if s.entries.Add(1) > s.limits.Entries {
		return &LimitError{"files", s.limits.Entries}
	}
	return nil
}

func (s *reading) report() {
	if s.progress != nil {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.progress(Progress{Layers: int(s.layers.Load()), Total: int(s.total.Load()), Bytes: s.bytes.Load()})
	}
}

func (s *reading) gaps() []string {
	if n := s.skipped.Load(); n > 0 {
		return []string{fmt.Sprintf("%d files were not looked at: their names are longer than %d bytes or deeper than %d directories", n, s.limits.Path, s.limits.Depth)}
	}
	return nil
}
