package intel

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Bundle is an open, verified bundle. It goes on serving the content that it
// was opened with when a newer one is published. Safe for concurrent use.
type Bundle struct {
	manifest Manifest
	now      func() time.Time
	db       *sql.DB
	packages filter // over affected
	files    filter // over malware

	mu sync.Mutex // guards everything that follows, and serialises queries
	// cache holds what was asked before; rows do not change below an open
	// bundle. cached counts its entries.
	cache          map[packageKey][]entry
	cached         int
	judgements     map[vuln.Subject]judgement // judgedFindings counts their findings
	judgedFindings int
	details        map[packageKey]vuln.Advisory // by feed and row, of advisories that hit
	aboutCVE       map[string]about             // unknown ones too
	exploited      map[string]bool
	rows           *unpacker
	queries        queries
}

// queries are prepared once.
type queries struct {
	affected, advisory, rating, likelihood, malware *sql.Stmt
}

type packageKey struct{ ecosystem, name string }

// entry is what one advisory says about one package.
type entry struct {
	feed, id string
	affected []vuln.Affected
}

// Bounds of what is remembered: entries of packages, findings, and what is known
// by name. One image comes nowhere near; who judges many is quicker by it.
const (
	maxCachedEntries = 60_000
	maxJudged        = 60_000
	maxCachedNames   = 30_000
)

// wayOut is the end of every message about an unusable bundle.
const wayOut = "run `breakwater intel update` to make a new one"

// Verify checks signature and content of the bundle in use below a data folder.
func Verify(data string) (Manifest, error) {
	dir, err := currentFolder(data)
	if err != nil {
		return Manifest{}, err
	}
	return verifyFolder(data, dir)
}

// Open verifies the bundle in use and opens it. Errors wrap ErrNoBundle,
// ErrUntrusted, ErrCorrupt or ErrSchema where one of them is the reason.
func Open(ctx context.Context, data string) (*Bundle, error) {
	dir, err := currentFolder(data)
	if err != nil {
		return nil, err
	}
	return openFolder(ctx, data, dir)
}

func openFolder(ctx context.Context, data, dir string) (*Bundle, error) {
	m, text, err := verifySignature(data, dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, dbName)
	if !isVerified(data, path, m.SHA256) {
		if m, err = checkContent(dir, text); err != nil {
			return nil, err
		}
		remembersVerified(data, path, m.SHA256)
	}
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	b := &Bundle{manifest: m, now: time.Now, db: db, cache: map[packageKey][]entry{}, details: map[packageKey]vuln.Advisory{},
		aboutCVE: map[string]about{}, judgements: map[vuln.Subject]judgement{}, rows: newUnpacker()}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, path, err, wayOut), db.Close())
	}
	return b, nil
}

// openDatabase opens a bundle's database for reading; its one connection stays,
// as the folder may be replaced.
func openDatabase(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func (b *Bundle) prepare(ctx context.Context) (err error) {
	var version int
	if err := b.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version != Schema {
		return fmt.Errorf("the database has schema %d, its manifest %d", version, Schema)
	}
	for _, f := range []struct {
		name string
		into *filter
	}{{"affected", &b.packages}, {"malware", &b.files}} {
		if err := b.db.QueryRowContext(ctx, "SELECT bits FROM filter WHERE name = ?1", f.name).Scan((*[]byte)(f.into)); err != nil {
			return fmt.Errorf("the filter of %s: %w", f.name, err)
		}
		if len(*f.into) == 0 {
			return fmt.Errorf("the filter of %s is empty", f.name)
		}
	}
	for _, q := range []struct {
		into *(*sql.Stmt)
		text string
	}{
		{&b.queries.affected, "SELECT feed, id, versions FROM affected WHERE ecosystem = ?1 AND name = ?2 ORDER BY feed, id"},
		{&b.queries.advisory, "SELECT detail FROM advisory WHERE feed = ?1 AND id = ?2"},
		{&b.queries.rating, "SELECT severity, source, cvss FROM rating WHERE cve = ?1 ORDER BY feed, id"},
		{&b.queries.likelihood, "SELECT score, percentile FROM likelihood WHERE cve = ?1 ORDER BY feed LIMIT 1"},
		{&b.queries.malware, "SELECT name, feed FROM malware WHERE hash = ?1 ORDER BY feed LIMIT 1"},
	} {
		if *q.into, err = b.db.PrepareContext(ctx, q.text); err != nil { //nolint:sqlclosecheck // the bundle's, closed with its database
			return err
		}
	}
	b.exploited, err = b.readExploited(ctx)
	return err
}

func (b *Bundle) readExploited(ctx context.Context) (map[string]bool, error) {
	rows, err := b.db.QueryContext(ctx, "SELECT cve FROM exploited")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	set := map[string]bool{}
	for rows.Next() {
		var cve string
		if err := rows.Scan(&cve); err != nil {
			return nil, err
		}
		set[cve] = true
	}
	return set, rows.Err()
}

// Manifest of the bundle.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// Close lets the bundle go.
func (b *Bundle) Close() error { return b.db.Close() }

// currentFolder resolves the link once, so that all files are of one bundle.
func currentFolder(data string) (string, error) {
	link := folderOf(data).current()
	dir, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w in %s; %s", ErrNoBundle, folderOf(data), wayOut)
	}
	if err != nil {
		return "", fmt.Errorf("the intelligence bundle %s: %w", link, err)
	}
	return dir, nil
}

// verifyFolder checks that a bundle is whole, signed and of this schema.
func verifyFolder(data, dir string) (Manifest, error) {
	_, text, err := verifySignature(data, dir)
	if err != nil {
		return Manifest{}, err
	}
	return checkContent(dir, text)
}

// verifySignature checks all but the database, and returns the manifest's text
// too.
func verifySignature(data, dir string) (m Manifest, text []byte, err error) {
	pin, err := readPin(data)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil, fmt.Errorf("%w: %s is missing, so nothing is trusted; %s", ErrUntrusted, pinPath(data), wayOut)
	}
	if errors.Is(err, fs.ErrPermission) {
		return m, nil, fmt.Errorf("the key that the intelligence bundle must be signed with: %w; run this as the owner of %s", err, data)
	}
	if err != nil {
		return m, nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	text, err = readSmall(filepath.Join(dir, manifestName))
	if err != nil {
		return m, nil, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, wayOut)
	}
	signature, err := readSmall(filepath.Join(dir, signatureName))
	if err != nil {
		return m, nil, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, wayOut)
	}
	if !verify(pin, text, signature) {
		return m, nil, fmt.Errorf("%w: %s does not match %s (key %s); %s", ErrUntrusted,
			filepath.Join(dir, signatureName), pinPath(data), fingerprint(pin), wayOut)
	}
	m, err = checkManifest(dir, text)
	return m, text, err
}

func checkManifest(dir string, text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, filepath.Join(dir, manifestName), err, wayOut)
	}
	if m.Schema > Schema {
		return Manifest{}, fmt.Errorf("%w: it has %d, this breakwater reads %d; use a newer breakwater, or %s", ErrSchema, m.Schema, Schema, wayOut)
	}
	if m.Schema != Schema {
		return Manifest{}, fmt.Errorf("%w: it has %d, this breakwater reads %d; %s", ErrSchema, m.Schema, Schema, wayOut)
	}
	return m, nil
}

func checkContent(dir string, text []byte) (Manifest, error) {
	m, err := checkManifest(dir, text)
	if err != nil {
		return m, err
	}
	path := filepath.Join(dir, dbName)
	digest, size, err := digestFile(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, wayOut)
	}
	if digest != m.SHA256 || size != m.Size {
		return Manifest{}, fmt.Errorf("%w: %s is not what was signed (%d bytes, %d expected); %s", ErrCorrupt, path, size, m.Size, wayOut)
	}
	return m, nil
}
