package intel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"modernc.org/sqlite" // also the database/sql driver "sqlite"
)

// Options say what to build a bundle from.
type Options struct {
	// Data is the data folder.
	Data string
	// Source is one base address that mirrors the publishers' layouts; empty
	// means the publishers themselves. https, file, or http on this host.
	Source string
	// Ecosystems are OSV's names without a release, "Debian" for the Debian
	// security tracker, or the one word "all"; empty means DefaultEcosystems.
	Ecosystems []string
	// Program is the version in the User-Agent.
	Program string
	// Lists are hashes of malicious files and network indicators to take up.
	Lists []List
	// Detections is the address of an archive of detections; empty means the
	// mirror's, or none.
	Detections string
	// Progress, if any, is never called by two goroutines at once.
	Progress func(Progress)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// List is a list of hashes, addresses, networks and domains (feed.ParseObservables).
type List struct{ Name, URL, Licence string }

// Progress is how far a build has come.
type Progress struct {
	Source string
	Stage  Stage
	// Done and Total are bytes while fetching; Total is -1 when unknown.
	Done, Total int64
	// Result is set when Stage is StageDone.
	Result Source
}

// Stage is a step of the work on one source.
type Stage string

// The stages.
const (
	StageFetch Stage = "fetching"
	StageRead  Stage = "reading"
	StageDone  Stage = "done"
)

// Build fetches the sources and makes a signed bundle of them the current one.
// A source that fails is kept from the bundle before, if that has it; the
// manifest's Failures say so. When every source fails, the bundle before stays
// as it is and the error tells each reason. ErrBusy: another process builds.
func Build(ctx context.Context, o Options) (Manifest, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	mirror, err := mirrorOf(o.Source)
	if err != nil {
		return Manifest{}, err
	}
	f := folderOf(o.Data)
	unlock, err := f.lock()
	if err != nil {
		return Manifest{}, err
	}
	defer unlock()
	key, err := signingKey(o.Data)
	if err != nil {
		return Manifest{}, err
	}
	dir, err := f.scratch()
	if err != nil {
		return Manifest{}, err
	}
	b := &builder{Options: o, at: addresses{mirror}, dir: dir, fetcher: newFetcher(o.Program)}
	b.previous, b.previousDB, b.distrust = previousBundle(ctx, o.Data)
	m, err := b.build(ctx)
	if err != nil {
		return Manifest{}, errors.Join(err, os.RemoveAll(dir))
	}
	ready := filepath.Join(dir, "ready")
	if err := writeManifest(ready, m, func(text []byte) []byte { return sign(key, text) }); err != nil {
		return Manifest{}, err
	}
	if err := f.publish(dir, ready, m.Built); err != nil {
		return Manifest{}, fmt.Errorf("publish the bundle in %s: %w", f, err)
	}
	return m, os.RemoveAll(dir)
}

// previousBundle is the verified bundle in use. Without one nothing is carried
// over; why tells when there is one that is not to be used.
func previousBundle(ctx context.Context, data string) (m Manifest, db string, why error) {
	dir, err := filepath.EvalSymlinks(folderOf(data).current())
	if err != nil {
		return Manifest{}, "", nil // the first build
	}
	bundle, err := openFolder(ctx, data, dir)
	if err != nil {
		return Manifest{}, "", err
	}
	return bundle.manifest, filepath.Join(dir, dbName), bundle.Close()
}

// builder is one build.
type builder struct {
	Options
	at         addresses
	dir        string
	fetcher    *fetcher
	w          *writer
	previous   Manifest
	previousDB string
	distrust   error    // why the bundle before is not used
	stay       []string // feeds whose rows of the bundle before stay

	mu sync.Mutex // serialises Progress
}

func (b *builder) report(p Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Progress(p)
}

func (b *builder) build(ctx context.Context) (m Manifest, err error) {
	sources, err := b.sources(ctx)
	if err != nil {
		return m, err
	}
	all, err := b.gather(ctx, sources)
	if err != nil {
		return m, err
	}
	if err := b.allFailed(all); err != nil {
		return m, err
	}
	if results, ok := b.nothingNew(all); ok {
		return b.again(results)
	}
	if b.w, err = newWriter(ctx, filepath.Join(b.dir, "work.db")); err != nil {
		return m, fmt.Errorf("the bundle's database in %s: %w", b.dir, err)
	}
	results, err := b.takeAll(ctx, all)
	if err != nil {
		return m, errors.Join(err, b.w.db.Close())
	}
	return b.seal(ctx, results)
}

// nothingNew says whether the rows of all sources are those of the bundle
// before, and tells what became of each.
func (b *builder) nothingNew(all []*gathered) ([]Source, bool) {
	if b.previousDB == "" || len(all)+len(b.imported()) != len(b.previous.Sources) {
		return nil, false
	}
	results := b.imported()
	for _, g := range all {
		if !g.known || g.err == nil {
			return nil, false
		}
		results = append(results, b.kept(g))
	}
	for _, r := range results {
		if !r.Imported {
			b.report(Progress{Source: r.Name, Stage: StageDone, Result: r})
		}
	}
	return results, true
}

// kept is the account of a source whose rows of the bundle before stay.
func (b *builder) kept(g *gathered) Source {
	result := g.before
	if errors.Is(g.err, errUnchanged) {
		result.Fetched, result.Error = b.Now().UTC(), ""
	} else {
		result.Error = g.err.Error()
	}
	return result
}

// imported are the sources that updates leave as they are.
func (b *builder) imported() []Source {
	var list []Source
	for _, s := range b.previous.Sources {
		if s.Imported && b.previousDB != "" {
			list = append(list, s)
		}
	}
	return list
}

// again makes a folder of the database of the bundle before: same content, same
// version, newer account of its sources.
func (b *builder) again(results []Source) (Manifest, error) {
	m := b.previous
	m.Built, m.Sources = b.Now().UTC(), results
	sortSources(m.Sources)
	ready := filepath.Join(b.dir, "ready")
	if err := os.Mkdir(ready, 0o700); err != nil {
		return m, err
	}
	return m, os.Link(b.previousDB, filepath.Join(ready, dbName))
}

// seal finishes the database and describes it.
func (b *builder) seal(ctx context.Context, results []Source) (m Manifest, err error) {
	ecosystems, err := b.w.ecosystems(ctx)
	if err != nil {
		return m, errors.Join(err, b.w.db.Close())
	}
	for i := range results {
		results[i].Ecosystems = ecosystems[results[i].Name]
	}
	sortSources(results)
	ready := filepath.Join(b.dir, "ready")
	if err := os.Mkdir(ready, 0o700); err != nil {
		return m, errors.Join(err, b.w.db.Close())
	}
	path := filepath.Join(ready, dbName)
	if err := b.w.finish(ctx, path); err != nil {
		return m, fmt.Errorf("the bundle's database %s: %w", path, err)
	}
	m = Manifest{Schema: Schema, Reader: reader, Built: b.Now().UTC(), Sources: results}
	if m.SHA256, m.Size, err = digestFile(path); err != nil {
		return m, err
	}
	m.Version = m.Built.Format("2006-01-02") + "-" + m.SHA256[:12]
	if b.previousDB != "" && b.previous.SHA256 == m.SHA256 {
		m.Version = b.previous.Version
	}
	return m, os.Chmod(path, 0o644)
}

func sortSources(list []Source) {
	slices.SortFunc(list, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
}

// allFailed is an error when not one source could be read; each is then told of.
func (b *builder) allFailed(all []*gathered) error {
	var failures []error
	for _, g := range all {
		if g.err == nil || errors.Is(g.err, errUnchanged) {
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", g.name, g.err))
	}
	for _, g := range all {
		b.report(Progress{Source: g.name, Stage: StageDone, Result: b.failed(g)})
	}
	return b.noSource(failures)
}

func (b *builder) noSource(failures []error) error {
	kept := ""
	if b.previousDB != "" {
		kept = fmt.Sprintf("; bundle %s stays in use", b.previous.Version)
	}
	return fmt.Errorf("no source of advisories could be read%s: %w", kept, errors.Join(failures...))
}

// takeAll brings every source's rows into the database, one after the other;
// it fails when none succeeds.
func (b *builder) takeAll(ctx context.Context, all []*gathered) ([]Source, error) {
	results := b.imported()
	for _, s := range results {
		b.stay = append(b.stay, s.Name)
	}
	var failures []error
	for _, g := range all {
		result, err := b.take(ctx, g)
		if err != nil {
			return nil, err // this machine's fault, not the source's
		}
		if result.Error != "" {
			failures = append(failures, fmt.Errorf("%s: %s", g.name, result.Error))
		}
		results = append(results, result)
		b.report(Progress{Source: g.name, Stage: StageDone, Result: result})
	}
	if len(failures) == len(all) {
		return nil, b.noSource(failures)
	}
	return results, b.w.carry(ctx, b.stay, b.previousDB, nil)
}

// take brings a source's new rows into the database; when nothing changed or the
// source failed, those of the bundle before are to stay.
func (b *builder) take(ctx context.Context, g *gathered) (Source, error) {
	result := Source{}
	if g.err == nil {
		result, g.err = b.read(ctx, g)
	}
	if ctx.Err() != nil {
		return Source{}, context.Cause(ctx)
	}
	var stop localError
	switch {
	case isLocal(g.err), errors.As(g.err, &stop):
		return Source{}, fmt.Errorf("%s: %w; the bundle in use stays as it is", g.name, g.err)
	case g.err == nil:
		return result, nil
	case g.known:
		b.stay = append(b.stay, g.name)
	}
	return b.failed(g), nil
}

// failed is the account of a source that gave nothing.
func (b *builder) failed(g *gathered) Source {
	if g.known {
		return b.kept(g)
	}
	return Source{Name: g.name, URL: g.url, Licence: g.licence, Error: b.explain(g.err)}
}

// read takes up what was fetched of a source.
func (b *builder) read(ctx context.Context, g *gathered) (result Source, err error) {
	b.report(Progress{Source: g.name, Stage: StageRead})
	note := &notes{}
	var updated time.Time
	if g.file.path != "" {
		updated, err = b.readFile(ctx, g, note)
	} else {
		err = b.takeChanged(ctx, g, note)
		note.skipped += g.before.Skipped
		note.examples = append(note.examples, g.before.Examples...)
		note.examples = note.examples[:min(len(note.examples), maxExamples)]
	}
	if err != nil {
		return Source{}, err
	}
	result = Source{Name: g.name, URL: g.url, Licence: g.licence, Updated: g.newest, Fetched: b.Now().UTC(),
		Skipped: note.skipped, Examples: note.examples, Index: g.index,
		ETag: g.file.etag, LastModified: g.file.lastModified, Digest: g.file.digest}
	if g.newest.IsZero() {
		result.Updated = updated
	}
	if !updated.IsZero() && updated.Before(g.newest) {
		// The export is older than the list of changes: what lies between is
		// asked for next time.
		result.Updated, result.Index = updated, Validator{}
	}
	result.Records, err = b.w.records(ctx, g.name)
	return result, local(err)
}

func (b *builder) readFile(ctx context.Context, g *gathered, note *notes) (updated time.Time, err error) {
	file, err := os.Open(g.file.path)
	if err != nil {
		return time.Time{}, local(err)
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(g.file.path)) }() // the scratch folder goes anyway
	if err := b.w.begin(ctx); err != nil {
		return time.Time{}, local(err)
	}
	updated, err = g.source.read(ctx, b.w, file, note)
	return updated, b.w.end(err)
}

// isLocal tells this machine's faults, a full disk above all, from a source's.
func isLocal(err error) bool {
	var database *sqlite.Error
	return errors.As(err, &database) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// explain adds why the bundle before could not stand in.
func (b *builder) explain(err error) string {
	if b.distrust != nil {
		return fmt.Sprintf("%v; and nothing was kept: %v", err, b.distrust)
	}
	return err.Error()
}

// writeManifest completes a bundle's folder.
func writeManifest(dir string, m Manifest, sign func([]byte) []byte) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	return errors.Join(
		os.WriteFile(filepath.Join(dir, manifestName), text, 0o644),
		os.WriteFile(filepath.Join(dir, signatureName), sign(text), 0o644))
}
