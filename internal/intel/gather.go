package intel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

const (
	maxFetches = 6 // publishers that are asked at once
	// maxChanged is how many changed records are fetched one by one; for more,
	// the whole export is less work for both sides.
	maxChanged = 500
)

// gathered is what a publisher gave this time.
type gathered struct {
	source
	before Source // of the bundle before
	known  bool   // before has data
	// err is errUnchanged when the rows of the bundle before are those of now.
	err  error
	file download // the whole data set, when path is set
	// index is the list of changes, and newest the newest time in it.
	index  Validator
	newest time.Time
	// changed are records to be read anew, gone those that are no more; both are
	// for when file.path is empty.
	changed []change
	gone    []string
}

// change is a fetched record.
type change struct {
	id   string
	file download
}

// gather asks every publisher what is new, several at once. The error is this
// machine's fault or the context's end.
func (b *builder) gather(ctx context.Context, sources []source) ([]*gathered, error) {
	all := make([]*gathered, len(sources))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFetches)
	for i, s := range sources {
		g := &gathered{source: s}
		g.before, g.known = b.previous.source(s.name)
		g.known = g.known && !g.before.Fetched.IsZero()
		all[i] = g
		group.Go(func() error {
			b.report(Progress{Source: s.name, Stage: StageFetch, Total: -1})
			g.err = b.ask(ctx, g)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if isLocal(g.err) {
				return fmt.Errorf("%s: %w; the bundle in use stays as it is", s.name, g.err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(g *gathered) bool {
		return g.optional && !g.known && errors.Is(g.err, errAbsent)
	}), nil
}

// ask finds out what is new of one source and fetches that.
func (b *builder) ask(ctx context.Context, g *gathered) error {
	same := g.known && g.before.URL == g.url && b.previous.Reader == reader
	condition := Validator{}
	if same {
		condition = g.before.validator()
	}
	if g.changes != nil {
		done, err := b.askChanges(ctx, g, same)
		// An unchanged list with a changed export is a publisher's mistake that
		// one question more finds.
		if done && !(errors.Is(err, errUnchanged) && condition != Validator{}) || err != nil && !done {
			return err
		}
	}
	address, err := b.resolve(ctx, g.source)
	if err != nil {
		return err
	}
	g.file, err = b.fetcher.get(ctx, address, b.dir, g.limit, condition, func(done, total int64) {
		b.report(Progress{Source: g.name, Stage: StageFetch, Done: done, Total: total})
	})
	if err == nil && condition.Digest != "" && condition.Digest == g.file.digest {
		return errors.Join(errUnchanged, os.Remove(g.file.path))
	}
	return err
}

// resolve follows a source's pointers to the address of its file.
func (b *builder) resolve(ctx context.Context, s source) (string, error) {
	address := s.url
	for range s.hops {
		got, err := b.fetcher.get(ctx, address, b.dir, maxSmall, Validator{}, nil)
		if err != nil {
			return "", err
		}
		text, err := readSmall(got.path)
		if err = errors.Join(err, os.Remove(got.path)); err != nil {
			return "", err
		}
		if address, err = s.pointer(address, string(text)); err != nil {
			return "", fmt.Errorf("%s: %w", s.url, err)
		}
	}
	return address, nil
}

// askChanges reads the list of changes. done says that it told all that is
// needed; a publisher without such a list, or with one that tells no times,
// gives out the whole instead.
func (b *builder) askChanges(ctx context.Context, g *gathered, same bool) (done bool, err error) {
	condition := Validator{}
	if same {
		condition = g.before.Index
	}
	got, err := b.fetcher.get(ctx, g.changes.url, b.dir, maxCSV, condition, nil)
	if errors.Is(err, errUnchanged) {
		return true, err
	}
	if err != nil {
		return false, nil // then there is none: the whole will tell
	}
	defer func() { _ = os.Remove(got.path) }() // the scratch folder goes anyway
	if condition.Digest != "" && condition.Digest == got.digest {
		return true, errUnchanged
	}
	file, err := os.Open(got.path)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // only read
	list, err := g.changes.list(file)
	if err != nil || len(list) == 0 {
		return false, nil // malformed: the whole will tell
	}
	g.index = Validator{got.etag, got.lastModified, got.digest}
	untimed := false
	for _, c := range list {
		untimed = untimed || c.Time.IsZero()
		if c.Time.After(g.newest) {
			g.newest = c.Time
		}
	}
	if !same || untimed || g.before.Updated.IsZero() {
		return false, nil
	}
	return b.fetchChanged(ctx, g, list)
}

// fetchChanged fetches the records that changed since the bundle before. A
// record that cannot be had means that the whole is needed.
func (b *builder) fetchChanged(ctx context.Context, g *gathered, list []feed.Change) (bool, error) {
	var paths []string
	for _, c := range list {
		if !c.Time.Before(g.before.Updated) {
			paths = append(paths, c.Path)
		}
	}
	if len(paths) > maxChanged {
		return false, nil
	}
	if g.changes.whole {
		var err error
		if g.gone, err = goneFrom(ctx, b.previousDB, g.name, list); err != nil || len(g.gone) > maxChanged {
			return false, err
		}
	}
	for _, path := range paths {
		got, err := b.fetcher.get(ctx, g.changes.record(path), b.dir, feed.MaxRecord, Validator{}, nil)
		if ctx.Err() != nil || isLocal(err) {
			return false, err
		}
		if err != nil {
			g.changed, g.gone = nil, nil
			return false, nil
		}
		g.changed = append(g.changed, change{g.changes.id(path), got})
	}
	return true, nil
}

// goneFrom names the records of a feed that its publisher lists no more.
func goneFrom(ctx context.Context, db, name string, list []feed.Change) ([]string, error) {
	records, err := recordsOf(ctx, db, name)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		delete(records, c.Path)
	}
	var gone []string
	for r := range records {
		gone = append(gone, r)
	}
	slices.Sort(gone)
	return gone, nil
}

// takeChanged brings a source's rows up to date: those of the bundle before,
// with the changed records in place of their former selves.
func (b *builder) takeChanged(ctx context.Context, g *gathered, note *notes) error {
	without := slices.Clone(g.gone)
	for _, c := range g.changed {
		without = append(without, c.id)
	}
	if err := b.w.carry(ctx, []string{g.name}, b.previousDB, without); err != nil {
		return local(err)
	}
	if err := b.w.begin(ctx); err != nil {
		return local(err)
	}
	for _, c := range g.changed {
		data, err := readRecord(c.file.path)
		if err != nil {
			return local(b.w.end(err))
		}
		var stop localError
		if err := g.changes.read(ctx, b.w, data, note); errors.As(err, &stop) {
			return b.w.end(stop)
		} else if err != nil {
			note.skip(c.id, err)
		}
	}
	return b.w.end(nil)
}

func readRecord(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	return io.ReadAll(io.LimitReader(file, feed.MaxRecord))
}

// recordsOf names the records that gave rows to a feed.
func recordsOf(ctx context.Context, path, name string) (set map[string]bool, err error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const record = "substr(id, 1, instr(id || '#', '#') - 1)"
	rows, err := db.QueryContext(ctx, "SELECT "+record+" FROM advisory WHERE feed = ?1 UNION SELECT "+record+" FROM rating WHERE feed = ?1", name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	set = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		set[id] = true
	}
	return set, rows.Err()
}
