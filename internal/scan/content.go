package scan

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/license"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/secret"
)

// Examiner looks at the whole content of files in memory. It runs in the
// confined child, on several layers at once, and keeps no state.
type Examiner interface {
	// Wants is asked about every file of every layer: it looks at its arguments
	// only and does not allocate.
	Wants(path string, size int64, executable bool) bool
	// Examine says what is in the content, which is valid during the call only
	// and ends at Limits.Content bytes when the file is larger. Places in the
	// result need only a line: the caller knows the rest. The error becomes a
	// gap of the report, beside what was found.
	Examine(path string, content []byte) (event.Content, error)
}

// Streamer is given content piece by piece, whatever its size.
type Streamer interface {
	Wants(path string, size int64, executable bool) bool
	// Stream starts a file: content is written to w, then end is called. The
	// file may end before size bytes.
	Stream(path string, size int64) (w io.Writer, end func() (event.Content, error))
}

// Look says what to look for in the content of files, besides packages. It
// goes to the child, as JSON.
type Look struct {
	// Malware is the version of the Malware scanner in the Options, which is
	// asked about programs, scripts and archives; "" for none.
	Malware string `json:"malware,omitempty"`
	// Secrets looks for credentials in text, also in the image's configuration.
	Secrets bool `json:"secrets,omitempty"`
	// Programs hashes programs, for intelligence on malicious ones, and looks for
	// evidence of miners and packers.
	Programs bool `json:"programs,omitempty"`
	// Licenses looks for licences in files; those that packages state by
	// themselves are known anyway.
	Licenses bool `json:"licenses,omitempty"`
	// Rules is the version of the YARA rules in the Options, which are evaluated
	// on files of at most Options.Content bytes; "" for none.
	Rules string `json:"rules,omitempty"`
	// RuleTime is how long all rules may take for one file; 0 means
	// malware.DefaultRuleTime.
	RuleTime time.Duration `json:"ruleTime,omitempty"`
}

// kind is one kind of content that can be looked for.
type kind struct {
	name string // of its results; see also kind.looked
	on   func(Look) bool
	// version changes whenever the same bytes could give another result:
	// results are kept under it. It must be cheap.
	version func(Look) string
	// open makes the Examiner or Streamer, in the child. The parent opens it with
	// no tools at all, and asks only what it wants.
	open func(Look, tools) (any, error)
	// whole: a file that does not fit into memory is left out, and counted.
	whole bool
}

// tools are what the parent gave the child besides the image.
type tools struct {
	relay    *relay // to the Malware scanner
	compiled []byte // YARA rules
}

// lookedRules is the kind that evaluates YARA rules.
const lookedRules = "yara"

// looked is the kind as Report.Looked has it, "" when it alone is not looking
// for anything that policy asks about.
func (k *kind) looked() string {
	switch k.name {
	case lookedPrograms:
		return ""
	case lookedRules:
		return event.LookedMalware
	}
	return k.name
}

// unanswered says that the kind's engine failed on some file.
func (k *kind) unanswered() string {
	if k.name == lookedRules {
		return "YARA rules were not evaluated to their end on every file: find the slow rule with the gaps of the layers"
	}
	return k.name + " was not looked for in every file: scan again when its engine answers"
}

// kinds lists every kind: one line each.
func kinds() []kind {
	return []kind{
		{event.LookedMalware, func(l Look) bool { return l.Malware != "" }, func(l Look) string { return l.Malware }, func(_ Look, t tools) (any, error) { return t.relay, nil }, false},
		{lookedPrograms, func(l Look) bool { return l.Programs }, func(Look) string { return malware.Version }, func(Look, tools) (any, error) { return malware.Programs{}, nil }, false},
		{event.LookedLicenses, func(l Look) bool { return l.Licenses }, func(Look) string { return "1" }, func(Look, tools) (any, error) { return license.Files{}, nil }, false},
		{event.LookedSecrets, func(l Look) bool { return l.Secrets }, func(Look) string { return secret.Version() }, func(Look, tools) (any, error) { return secret.New() }, false},
		{lookedRules, func(l Look) bool { return l.Rules != "" }, func(l Look) string { return l.Rules }, openRules, true},
	}
}

func (l Look) wanted() []kind {
	var out []kind
	for _, k := range kinds() {
		if k.on(l) {
			out = append(out, k)
		}
	}
	return out
}

// pass is one pass over all layers of an image: content of a wanted file is
// read once and handed to everybody who wants it.
type pass struct {
	engine *inventory.Engine
	looks  []looker
	limit  int64 // bytes of one file held in memory
	pool   sync.Pool
}

// looker is an open kind: one of the two is nil.
type looker struct {
	name   string
	whole  Examiner
	stream Streamer
	most   int64 // bytes of a file; larger ones are counted
}

// DefaultContent is how much of one file is held in memory.
const DefaultContent = 8 << 20

func newPass(key inventory.Key, look Look, limit int64, given tools) (*pass, error) {
	if limit <= 0 {
		limit = DefaultContent
	}
	p := &pass{engine: engineOf(key), limit: limit}
	for _, k := range look.wanted() {
		opened, err := k.open(look, given)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		l := looker{name: k.name, most: math.MaxInt64}
		if k.whole {
			l.most = limit
		}
		l.whole, _ = opened.(Examiner)
		l.stream, _ = opened.(Streamer)
		p.looks = append(p.looks, l)
	}
	return p, nil
}

func (p *pass) newLayer() image.Sink {
	return &layerPass{pass: p, layer: p.engine.NewLayer(), found: make([]event.Content, len(p.looks))}
}

// wants says whether anybody wants the content of e.
func (p *pass) wants(e image.Entry) bool {
	if e.Kind != image.File {
		return false
	}
	executable := e.Mode&0o111 != 0
	if p.engine.Wants(e.Path, inventory.Info{Size: e.Size, Executable: executable}) {
		return true
	}
	for i := range p.looks {
		if p.looks[i].wants(e.Path, e.Size, executable) {
			return true
		}
	}
	return false
}

func (l *looker) wants(path string, size int64, executable bool) bool {
	return size <= l.most && l.would(path, size, executable)
}

// would is wants for a file of any size.
func (l *looker) would(path string, size int64, executable bool) bool {
	if l.whole != nil {
		return l.whole.Wants(path, size, executable)
	}
	return l.stream.Wants(path, size, executable)
}

// layerPass is one layer's share of the pass.
type layerPass struct {
	*pass
	layer *inventory.Layer
	found []event.Content // one per look
}

var entryKinds = [...]inventory.Kind{image.File: inventory.Regular, image.Dir: inventory.Dir, image.Symlink: inventory.Symlink, image.Hardlink: inventory.Hardlink, image.Other: inventory.Other}

// Visit implements image.Sink.
func (l *layerPass) Visit(e image.Entry, content io.Reader) error {
	entry := inventory.Entry{Path: e.Path, Kind: entryKinds[e.Kind], Link: e.Link, Size: e.Size, Executable: e.Mode&0o111 != 0}
	if e.Kind != image.File || len(l.looks) == 0 {
		l.layer.Visit(entry, content)
		return nil
	}
	f := wantedFile{layerPass: l, path: e.Path, size: e.Size}
	for i := range l.looks {
		switch look := &l.looks[i]; {
		case !look.would(e.Path, e.Size, entry.Executable):
		case e.Size > look.most:
			l.found[i].Larger++
		default:
			f.by = append(f.by, i)
		}
	}
	if len(f.by) == 0 {
		l.layer.Visit(entry, content)
		return nil
	}
	return f.read(entry, content)
}

// wantedFile is a file whose content at least one look wants.
type wantedFile struct {
	*layerPass
	path string
	size int64
	by   []int // looks
	ends []func()
	tee  []io.Writer
}

// read reads the beginning into memory, which everybody gets, and what follows
// past whoever wants it as a stream.
func (f *wantedFile) read(entry inventory.Entry, content io.Reader) error {
	buf := f.buffer(min(f.size, f.need()))
	defer f.pool.Put(&buf)
	n, err := io.ReadFull(content, buf)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return err // the layer cannot be read on
	}
	head := buf[:n]
	f.open()
	_, _ = f.Write(head) // a stream's own error comes at its end
	rest := io.TeeReader(content, f)
	f.layer.Visit(entry, f.again(head, rest, content))
	if int64(n) < f.size && len(f.tee) > 0 {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return err
		}
	}
	for _, end := range f.ends {
		end()
	}
	for _, i := range f.by {
		if whole := f.looks[i].whole; whole != nil {
			found, err := whole.Examine(f.path, head)
			f.add(i, found, err)
			if int64(n) < f.size {
				f.gap(i, fmt.Sprintf("only its first %d of %d bytes were looked at", n, f.size))
			}
		}
	}
	return nil
}

// need is how much of the file must be in memory.
func (f *wantedFile) need() int64 {
	for _, i := range f.by {
		if f.looks[i].whole != nil {
			return f.limit
		}
	}
	return streamHead
}

const streamHead = 64 << 10

// again is the content for the inventory's driver: the beginning is in memory
// already; by offset too where that is possible.
func (f *wantedFile) again(head []byte, rest, original io.Reader) io.Reader {
	r := io.MultiReader(bytes.NewReader(head), rest)
	if int64(len(head)) == f.size {
		return struct {
			io.Reader
			io.ReaderAt
		}{r, bytes.NewReader(head)}
	}
	if at, ok := original.(io.ReaderAt); ok {
		return struct {
			io.Reader
			io.ReaderAt
		}{r, at}
	}
	return r
}

// buffer takes one of at least n bytes, and gives n of them.
func (f *wantedFile) buffer(n int64) []byte {
	if b, ok := f.pool.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		return (*b)[:n]
	}
	return make([]byte, n, max(n, 64<<10))
}

func (f *wantedFile) open() {
	for _, i := range f.by {
		if s := f.looks[i].stream; s != nil {
			w, end := s.Stream(f.path, f.size)
			f.tee = append(f.tee, w)
			f.ends = append(f.ends, func() {
				found, err := end()
				f.add(i, found, err)
			})
		}
	}
}

// Write feeds the streams. Each one keeps its own error for its end.
func (f *wantedFile) Write(p []byte) (int, error) {
	for _, w := range f.tee {
		_, _ = w.Write(p)
	}
	return len(p), nil
}

func (f *wantedFile) add(i int, c event.Content, err error) {
	place := func(p *event.Place) { p.Kind, p.Path = event.PlaceFile, f.path }
	for n := range c.Malware {
		place(&c.Malware[n].Place)
	}
	for n := range c.Secrets {
		place(&c.Secrets[n].Place)
	}
	for n := range c.Hashes {
		place(&c.Hashes[n].Place)
	}
	for n := range c.Licenses {
		place(&c.Licenses[n].Place)
	}
	all := &f.found[i]
	if max(len(all.Malware)+len(c.Malware), len(all.Secrets)+len(c.Secrets)) > maxFound {
		f.gap(i, fmt.Sprintf("the layer has more than %d: this and what follows is not told", maxFound))
	}
	all.Malware = capped(append(all.Malware, c.Malware...))
	all.Secrets = capped(append(all.Secrets, c.Secrets...))
	all.Licenses = capped(append(all.Licenses, c.Licenses...))
	all.Hashes = append(all.Hashes, c.Hashes...)
	if len(all.Hashes) > maxHashes {
		all.Hashes = all.Hashes[:maxHashes]
		f.gap(i, fmt.Sprintf("the layer has more than %d programs: not all were held against intelligence", maxHashes))
	}
	for _, g := range c.Gaps {
		f.gap(i, g)
	}
	all.Failed = all.Failed || c.Failed
	if err != nil {
		f.gap(i, err.Error())
	}
}

// Bounds of what one layer can make a scan keep, per kind.
const (
	maxFound       = 10_000
	maxHashes      = 50_000
	maxContentGaps = 20
)

func capped[T any](all []T) []T { return all[:min(len(all), maxFound)] }

func (f *wantedFile) gap(i int, reason string) {
	if gaps := &f.found[i].Gaps; len(*gaps) < maxContentGaps {
		*gaps = append(*gaps, f.path+": "+f.looks[i].name+": "+reason)
	}
}
