package intel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/intel/feed/grypedb"
	"github.com/breakwater-sec/breakwater/internal/intel/feed/trivydb"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// ImportOptions say what to take in.
type ImportOptions struct {
	// Data is the data folder.
	Data string
	// From is a file's path, or oci://REGISTRY/REPOSITORY:TAG.
	From string
	// Name of the feed that a list becomes: "list/NAME".
	Name string
	// Remove takes the named imported feed out instead; From is not used.
	Remove string
	// Program is the version in the User-Agent.
	Program string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const importPrefix = ".import-"

// Import takes in what a file holds, told by its content:
//
//   - a bundle or a delta that Export or ExportDelta wrote: it becomes the one in
//     use if the key that this folder trusts signed it (see Install);
//   - a trivy-db of schema 2 or a Grype database of schema 6, plain or in the
//     archive that they are distributed in: its rows become a feed of the bundle,
//     which is signed anew by this folder's key;
//   - a list of hashes or indicators (feed.ParseObservables): the same, with Name.
//
// Feeds that were imported stay through updates until they are imported anew or
// removed. The bundle in use stays when anything fails.
func Import(ctx context.Context, o ImportOptions) (m Manifest, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := folderOf(o.Data)
	if err := os.MkdirAll(f.bundles(), 0o755); err != nil {
		return m, err
	}
	if o.Remove != "" {
		return addFeed(ctx, o, nil)
	}
	if err := removeOldImports(string(f), o.Now()); err != nil {
		return m, err
	}
	m, err = importFrom(ctx, o, false)
	if strings.HasPrefix(o.From, "oci://") && (errors.Is(err, ErrNoBase) || errors.Is(err, errDelta)) {
		m, err = importFrom(ctx, o, true)
	}
	return m, err
}

// importFrom takes in a file or an artifact; whole refuses deltas of artifacts.
func importFrom(ctx context.Context, o ImportOptions, whole bool) (m Manifest, err error) {
	dir, err := os.MkdirTemp(string(folderOf(o.Data)), importPrefix)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	members, digest, err := fetchImport(ctx, o, whole, dir)
	if err != nil {
		return m, fmt.Errorf("import %s: %w", o.From, err)
	}
	if m, err = takeIn(ctx, o, dir, members, digest); err != nil {
		return m, fmt.Errorf("import %s: %w", o.From, err)
	}
	return m, nil
}

// removeOldImports clears up after imports that were killed.
func removeOldImports(dir string, now time.Time) error {
	old, err := filepath.Glob(filepath.Join(dir, importPrefix+"*"))
	for _, path := range old {
		if info, e := os.Stat(path); e == nil && now.Sub(info.ModTime()) > 24*time.Hour {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// fetchImport unpacks what is to be imported into dir. digest is that of the
// file as it came.
func fetchImport(ctx context.Context, o ImportOptions, whole bool, dir string) (members []string, digest string, err error) {
	path := o.From
	if reference, ok := strings.CutPrefix(o.From, "oci://"); ok {
		path = filepath.Join(dir, "artifact")
		if err := pullArtifact(ctx, reference, o, whole, path); err != nil {
			return nil, "", err
		}
	}
	if digest, _, err = digestFile(path); err != nil {
		return nil, "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = file.Close() }() // only read
	members, err = unpackTo(ctx, file, dir)
	return members, digest, err
}

func takeIn(ctx context.Context, o ImportOptions, dir string, members []string, digest string) (Manifest, error) {
	has := func(name string) bool { return slices.Contains(members, name) }
	switch {
	case has(manifestName) && (has(dbName) || has(deltaDBName)):
		return installFrom(ctx, o.Data, dir, has(dbName))
	case has(trivyName):
		return addFeed(ctx, o, trivyFeed(o, dir, has(trivyMetadataName), digest))
	case has(grypeName):
		return addFeed(ctx, o, grypeFeed(o, dir, digest))
	case has("list"):
		if !feed.ValidEcosystem(o.Name) {
			return Manifest{}, fmt.Errorf("a list needs a name of letters, digits and dashes, not %q", o.Name)
		}
		return addFeed(ctx, o, listFeed(o, dir, digest))
	}
	return Manifest{}, errors.New("it is no bundle, trivy-db, Grype database or list of hashes or indicators")
}

// installFrom makes an unpacked bundle, or the one that an unpacked delta leads
// to, the one in use.
func installFrom(ctx context.Context, data, dir string, whole bool) (Manifest, error) {
	text, err1 := readSmall(filepath.Join(dir, manifestName))
	signature, err2 := readSmall(filepath.Join(dir, signatureName))
	if err := errors.Join(err1, err2); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	m, err := checkOffer(data, Offer{Manifest: text, Signature: signature})
	if err != nil {
		return m, err
	}
	path := filepath.Join(dir, dbName)
	if !whole {
		if path, err = applyDelta(ctx, data, dir, m); err != nil {
			return m, err
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer func() { _ = file.Close() }() // only read
	buf := make([]byte, 1<<20)
	return Install(ctx, data, Offer{Manifest: text, Signature: signature, Part: func(_ context.Context, offset int64) ([]byte, error) {
		n, err := file.ReadAt(buf, offset)
		if n == 0 {
			return nil, fmt.Errorf("%w: %s ends too early: %w", ErrCorrupt, dbName, err)
		}
		return buf[:n], nil
	}})
}

// newFeed is a feed to be added: what the manifest says of it, and its reader.
type newFeed struct {
	Source
	read func(ctx context.Context, w *writer, note *notes) (updated time.Time, err error)
}

// addFeed makes a bundle of the one in use and a feed, which takes the place of
// one of the same name; without a feed the one that is to be removed is left out.
func addFeed(ctx context.Context, o ImportOptions, add *newFeed) (Manifest, error) {
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
	b := &builder{Options: Options{Data: o.Data, Now: o.Now, Progress: func(Progress) {}}, dir: dir}
	b.previous, b.previousDB, b.distrust = previousBundle(ctx, o.Data)
	m, err := b.with(ctx, add, o.Remove)
	if err != nil {
		return m, errors.Join(err, os.RemoveAll(dir))
	}
	ready := filepath.Join(dir, "ready")
	if err := writeManifest(ready, m, func(text []byte) []byte { return sign(key, text) }); err != nil {
		return m, err
	}
	if err := f.publish(dir, ready, m.Built); err != nil {
		return m, fmt.Errorf("publish the bundle in %s: %w", f, err)
	}
	return m, os.RemoveAll(dir)
}

func (b *builder) with(ctx context.Context, add *newFeed, remove string) (m Manifest, err error) {
	if b.distrust != nil {
		return m, b.distrust
	}
	if b.w, err = newWriter(ctx, filepath.Join(b.dir, "work.db")); err != nil {
		return m, err
	}
	results, err := b.carryOthers(ctx, add, remove)
	if err == nil && add != nil {
		results, err = b.takeFeed(ctx, results, add)
	}
	if err != nil {
		return m, errors.Join(err, b.w.db.Close())
	}
	return b.seal(ctx, results)
}

func (b *builder) carryOthers(ctx context.Context, add *newFeed, remove string) (results []Source, err error) {
	removed := false
	for _, s := range b.previous.Sources {
		if s.Name == remove && s.Imported {
			removed = true
			continue
		}
		if add != nil && s.Name == add.Name {
			continue
		}
		b.stay = append(b.stay, s.Name)
		results = append(results, s)
	}
	if remove != "" && !removed {
		return nil, fmt.Errorf("there is no imported feed %q in the bundle", remove)
	}
	return results, b.w.carry(ctx, b.stay, b.previousDB, nil)
}

func (b *builder) takeFeed(ctx context.Context, results []Source, add *newFeed) ([]Source, error) {
	if err := b.w.begin(ctx); err != nil {
		return nil, err
	}
	note := &notes{}
	updated, err := add.read(ctx, b.w, note)
	if err := b.w.end(err); err != nil {
		return nil, err
	}
	s := add.Source
	s.Imported, s.Updated, s.Fetched, s.Skipped, s.Examples = true, updated, b.Now().UTC(), note.skipped, note.examples
	if s.Records, err = b.w.records(ctx, s.Name); err != nil {
		return nil, err
	}
	if s.Records == 0 {
		return nil, errors.New("it holds nothing that can be used")
	}
	return append(results, s), nil
}

func trivyFeed(o ImportOptions, dir string, described bool, digest string) *newFeed {
	const name = "import/trivy"
	return &newFeed{Source{Name: name, URL: o.From, Digest: digest, Licence: "as its sources': see trivy-db's data-source"},
		func(ctx context.Context, w *writer, note *notes) (updated time.Time, err error) {
			if described {
				text, err := readSmall(filepath.Join(dir, trivyMetadataName))
				if err != nil {
					return updated, err
				}
				m, err := trivydb.ParseMetadata(text)
				if err != nil {
					return updated, err
				}
				updated = m.UpdatedAt.UTC().Truncate(time.Second)
			}
			file, err := os.Open(filepath.Join(dir, trivyName))
			if err != nil {
				return updated, err
			}
			defer func() { _ = file.Close() }() // only read
			info, err := file.Stat()
			if err != nil {
				return updated, err
			}
			return updated, trivydb.Read(file, info.Size(), trivydb.Sinks{
				Advisory: func(record string, a vuln.Advisory) error {
					return errors.Join(ctx.Err(), w.add(ctx, name, record, a, every))
				},
				Rating: func(record string, r feed.Rating) error { return w.score(ctx, name, record, r) },
				Skip:   note.skip,
			})
		}}
}

func grypeFeed(o ImportOptions, dir, digest string) *newFeed {
	const name = "import/grype"
	return &newFeed{Source{Name: name, URL: o.From, Digest: digest, Licence: "as its sources': see Grype's providers"},
		func(ctx context.Context, w *writer, note *notes) (time.Time, error) {
			return grypedb.Read(ctx, filepath.Join(dir, grypeName), grypedb.Sinks{
				Advisory: func(record string, a vuln.Advisory) error {
					return errors.Join(w.rate(ctx, name, record, a), w.merge(ctx, name, record, a))
				},
				Rating:     func(record string, r feed.Rating) error { return w.score(ctx, name, record, r) },
				Exploited:  func(e feed.Exploited) error { return w.exploit(ctx, name, e) },
				Likelihood: func(e feed.Exploitability) error { return w.likely(ctx, name, e) },
				Skip:       note.skip,
			})
		}}
}

func listFeed(o ImportOptions, dir, digest string) *newFeed {
	name := "list/" + o.Name
	return &newFeed{Source{Name: name, URL: o.From, Digest: digest},
		func(ctx context.Context, w *writer, note *notes) (time.Time, error) {
			file, err := os.Open(filepath.Join(dir, "list"))
			if err != nil {
				return time.Time{}, err
			}
			defer func() { _ = file.Close() }() // only read
			return time.Time{}, feed.ParseObservables(file, func(x feed.Observable) error { return w.observe(ctx, name, x) }, note.skip)
		}}
}

// TrustFile makes the public key in a PEM file the one that bundles of this data
// folder must be signed with. A folder that trusts another key already, or that
// signs bundles itself, is refused: remove its key first, knowingly.
func TrustFile(data, file string) (fingerprintOfKey string, err error) {
	pub, err := readPublic(file)
	if err != nil {
		return "", err
	}
	pin, err := readPin(data)
	switch {
	case err == nil && pub.Equal(pin):
		return fingerprint(pub), nil
	case err == nil:
		return fingerprint(pin), fmt.Errorf("%s trusts another key (%s) already; remove it to trust %s (%s)", pinPath(data), fingerprint(pin), file, fingerprint(pub))
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(pinPath(data)), 0o700); err != nil {
		return "", err
	}
	return fingerprint(pub), writePin(pinPath(data), pub)
}
