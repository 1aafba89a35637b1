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
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite" // also the database/sql driver "sqlite"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
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
	// Progress, if any, is called from the goroutine that called Build.
	Progress func(Progress)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

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

// DefaultEcosystems are those that the inventory of this version finds.
func DefaultEcosystems() []string { return []string{"Debian", "Go", "npm"} }

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
	at, err := addressesOf(o.Source)
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
	b := &builder{Options: o, at: at, dir: dir, fetcher: newFetcher(o.Program)}
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
	distrust   error // why the bundle before is not used
}

func (b *builder) build(ctx context.Context) (m Manifest, err error) {
	sources, err := b.sources(ctx)
	if err != nil {
		return m, err
	}
	if b.w, err = newWriter(ctx, filepath.Join(b.dir, "work.db")); err != nil {
		return m, fmt.Errorf("the bundle's database in %s: %w", b.dir, err)
	}
	results, err := b.all(ctx, sources)
	if err != nil {
		return m, errors.Join(err, b.w.db.Close())
	}
	ready := filepath.Join(b.dir, "ready")
	if err := os.Mkdir(ready, 0o700); err != nil {
		return m, err
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
	return m, os.Chmod(path, 0o644)
}

// all takes up one source after the other; it fails when none succeeds.
func (b *builder) all(ctx context.Context, sources []source) ([]Source, error) {
	var results []Source
	var failures []error
	for _, s := range sources {
		result, err := b.one(ctx, s)
		if err != nil {
			return nil, err // this machine's fault, not the source's
		}
		if result.Error != "" {
			failures = append(failures, fmt.Errorf("%s: %s", s.name, result.Error))
		}
		results = append(results, result)
		b.Progress(Progress{Source: s.name, Stage: StageDone, Result: result})
	}
	if len(failures) == len(sources) {
		kept := ""
		if b.previousDB != "" {
			kept = fmt.Sprintf("; bundle %s stays in use", b.previous.Version)
		}
		return nil, fmt.Errorf("no source of advisories could be read%s: %w", kept, errors.Join(failures...))
	}
	return results, nil
}

// one brings a source's rows into the database: new ones, or those of the
// bundle before when nothing changed or the source failed.
func (b *builder) one(ctx context.Context, s source) (Source, error) {
	before, known := b.previous.source(s.name)
	known = known && !before.Fetched.IsZero()
	result, err := b.renew(ctx, s, before, known)
	if ctx.Err() != nil {
		return Source{}, context.Cause(ctx)
	}
	switch {
	case isLocal(err):
		return Source{}, fmt.Errorf("%s: %w; the bundle in use stays as it is", s.name, err)
	case errors.Is(err, errUnchanged):
		result = before
		result.Fetched, result.Error = b.Now().UTC(), ""
	case err != nil && known:
		result = before
		result.Error = err.Error()
	case err != nil:
		return Source{Name: s.name, URL: s.url, Error: b.explain(err)}, nil
	default:
		return result, nil
	}
	if err := b.w.carry(ctx, s.name, b.previousDB); err != nil {
		return Source{}, err
	}
	return result, nil
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

// renew fetches and reads a source; errUnchanged means that the rows of the
// bundle before are those of now.
func (b *builder) renew(ctx context.Context, s source, before Source, known bool) (Source, error) {
	b.Progress(Progress{Source: s.name, Stage: StageFetch, Total: -1})
	condition := Source{}
	if known && before.URL == s.url && b.previous.Reader == reader {
		condition = before
	}
	got, err := b.fetcher.get(ctx, s.url, b.dir, s.limit, condition, func(done, total int64) {
		b.Progress(Progress{Source: s.name, Stage: StageFetch, Done: done, Total: total})
	})
	if err != nil {
		return Source{}, err
	}
	defer func() { _ = os.Remove(got.path) }() // the scratch folder goes anyway
	if condition.Digest == got.digest && got.digest != "" {
		return Source{}, errUnchanged
	}
	b.Progress(Progress{Source: s.name, Stage: StageRead})
	note := &notes{}
	updated, err := b.read(ctx, s, got.path, note)
	if err != nil {
		return Source{}, err
	}
	result := Source{Name: s.name, URL: s.url, Updated: cmp.Or(b.newest(ctx, s, note), updated), Fetched: b.Now().UTC(),
		Skipped: note.skipped, Examples: note.examples,
		ETag: got.etag, LastModified: got.lastModified, Digest: got.digest}
	result.Records, result.Ecosystems, err = b.w.counts(ctx, s.name)
	return result, err
}

func (b *builder) read(ctx context.Context, s source, path string, note *notes) (updated time.Time, err error) {
	file, err := os.Open(path)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = file.Close() }() // only read
	if err := b.w.begin(ctx); err != nil {
		return time.Time{}, err
	}
	updated, err = s.read(ctx, b.w, file, note)
	return updated, b.w.end(err)
}

// newest asks modified_id.csv how new the export is; a publisher without one,
// or with one that states no time, leaves that to the records.
func (b *builder) newest(ctx context.Context, s source, note *notes) time.Time {
	if s.csv == "" {
		return time.Time{}
	}
	got, err := b.fetcher.get(ctx, s.csv, b.dir, maxCSV, Source{}, nil)
	if err != nil {
		if !errors.Is(err, errAbsent) {
			note.skip("modified_id.csv", err)
		}
		return time.Time{}
	}
	file, err := os.Open(got.path)
	if err != nil {
		return time.Time{}
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(got.path)) }() // the scratch folder goes anyway
	newest, err := feed.NewestModified(file)
	if err != nil {
		note.skip("modified_id.csv", err)
	}
	return newest
}

// sources lists what to take up, in a fixed order.
func (b *builder) sources(ctx context.Context) ([]source, error) {
	wanted := b.Ecosystems
	if len(wanted) == 0 {
		wanted = DefaultEcosystems()
	}
	offered, offerErr := b.offered(ctx)
	if slices.Contains(wanted, "all") {
		if offerErr != nil {
			return nil, fmt.Errorf("cannot find out what all ecosystems are: %w", offerErr)
		}
		wanted = append([]string{"Debian"}, offered...)
	}
	list := []source{kevSource(b.at)}
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	for _, ecosystem := range wanted {
		switch {
		case !feed.ValidEcosystem(ecosystem):
			return nil, fmt.Errorf("ecosystem %q: not a name of an OSV ecosystem without a release, such as npm or Go", ecosystem)
		case ecosystem == "Debian":
			list = append(list, debianSource(b.at))
			if slices.Contains(offered, "Debian") {
				list = append(list, ratingSource(b.at))
			}
		case offerErr == nil && !slices.Contains(offered, ecosystem):
			return nil, fmt.Errorf("ecosystem %q: %s does not offer it; it offers: %s", ecosystem, b.at.osv, strings.Join(offered, ", "))
		default:
			list = append(list, osvSource(b.at, ecosystem))
		}
	}
	return list, nil
}

func (b *builder) offered(ctx context.Context) ([]string, error) {
	got, err := b.fetcher.get(ctx, b.at.osv+"/ecosystems.txt", b.dir, 1<<20, Source{}, nil)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(got.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(got.path)) }() // the scratch folder goes anyway
	return feed.Ecosystems(file)
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
