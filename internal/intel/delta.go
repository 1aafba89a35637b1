package intel

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// deltaContext keeps a signature of a delta from being one of anything else.
const deltaContext = "breakwater intelligence delta v1\n"

// ErrNoBase: a delta was asked for, or is to be applied, that starts at a bundle
// which is not there. The whole bundle does.
var ErrNoBase = errors.New("the bundle that the delta starts at is not there")

// errDelta: a delta came out as something else than what was signed.
var errDelta = errors.New("the delta does not make the bundle that was signed; take the whole one")

// deltaHead describes a delta; it is what its signature covers.
type deltaHead struct {
	Schema int    `json:"schema"`
	From   string `json:"from"`   // SHA-256 of the database that it starts at
	To     string `json:"to"`     // and of the one that it makes
	SHA256 string `json:"sha256"` // of delta.db
}

// ExportDelta writes what makes the bundle of version from, which must be one
// that this folder still keeps, the one in use. The delta is signed by this
// folder's key, and so is the manifest of what comes out.
func ExportDelta(ctx context.Context, data, from string, w io.Writer) (m Manifest, err error) {
	dir, err := currentFolder(data)
	if err != nil {
		return m, err
	}
	if m, err = verifyFolder(data, dir); err != nil {
		return m, err
	}
	base, err := keptFolder(data, from)
	if err != nil {
		return m, err
	}
	key, err := readKey(keyPath(data))
	if err != nil {
		return m, fmt.Errorf("sign the delta: %w; only who builds bundles makes deltas", err)
	}
	scratch, err := os.MkdirTemp(string(folderOf(data)), importPrefix)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	path := filepath.Join(scratch, deltaDBName)
	if err := makeDelta(ctx, path, filepath.Join(base.dir, dbName), filepath.Join(dir, dbName)); err != nil {
		return m, fmt.Errorf("the delta from %s: %w", from, err)
	}
	head := deltaHead{Schema: Schema, From: base.SHA256, To: m.SHA256}
	if head.SHA256, _, err = digestFile(path); err != nil {
		return m, err
	}
	text, err := json.Marshal(head)
	if err != nil {
		return m, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(scratch, deltaName), text, 0o600),
		os.WriteFile(filepath.Join(scratch, deltaSignatureName), signAs(key, deltaContext, text), 0o600))
	if err != nil {
		return m, err
	}
	return m, writeArchive(ctx, w, []string{filepath.Join(scratch, deltaName), filepath.Join(scratch, deltaSignatureName),
		filepath.Join(dir, manifestName), filepath.Join(dir, signatureName), path})
}

// kept is a verified bundle that lies in the folder.
type kept struct {
	Manifest
	dir string
}

// keptFolder finds a kept bundle by its version or its database's SHA-256.
func keptFolder(data, version string) (kept, error) {
	folders, err := filepath.Glob(filepath.Join(folderOf(data).bundles(), "*"))
	if err != nil {
		return kept{}, err
	}
	for _, dir := range folders {
		if m, err := verifyFolder(data, dir); err == nil && (m.Version == version || m.SHA256 == version) {
			return kept{m, dir}, nil
		}
	}
	return kept{}, fmt.Errorf("%w: %s has no bundle %q", ErrNoBase, folderOf(data), version)
}

// makeDelta writes, per table, the rows that are new or other than before, and
// the keys of those that are gone.
func makeDelta(ctx context.Context, path, from, to string) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-65536)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	w := &writer{db: db}
	if err := errors.Join(w.attach(ctx, from, "earlier"), w.attach(ctx, to, "later")); err != nil {
		return err
	}
	for _, t := range tables() {
		for _, query := range []string{
			fmt.Sprintf("CREATE TABLE main.%s AS SELECT * FROM later.%s EXCEPT SELECT * FROM earlier.%s", t.name, t.name, t.name),
			fmt.Sprintf("CREATE TABLE main.gone_%s AS SELECT %s FROM earlier.%s EXCEPT SELECT %s FROM later.%s", t.name, t.key, t.name, t.key, t.name),
		} {
			if _, err := db.ExecContext(ctx, query); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyDelta makes the new database of the one in use and a delta, in dir, and
// returns its path.
func applyDelta(ctx context.Context, data, dir string, m Manifest) (string, error) {
	head, err := readDelta(data, dir)
	if err != nil {
		return "", err
	}
	base, err := keptFolder(data, head.From)
	if err != nil {
		return "", err
	}
	w, err := newWriter(ctx, filepath.Join(dir, "work.db"))
	if err != nil {
		return "", err
	}
	if err := w.patch(ctx, filepath.Join(base.dir, dbName), filepath.Join(dir, deltaDBName)); err != nil {
		return "", errors.Join(fmt.Errorf("apply the delta: %w", err), w.db.Close())
	}
	path := filepath.Join(dir, dbName)
	if err := w.finish(ctx, path); err != nil {
		return "", err
	}
	// Another version of SQLite may write the same rows in other bytes.
	if digest, _, err := digestFile(path); err != nil || digest != m.SHA256 {
		return "", errors.Join(err, errDelta)
	}
	return path, nil
}

func readDelta(data, dir string) (head deltaHead, err error) {
	text, err1 := readSmall(filepath.Join(dir, deltaName))
	signature, err2 := readSmall(filepath.Join(dir, deltaSignatureName))
	pin, err3 := readPin(data)
	if err := errors.Join(err1, err2, err3); err != nil {
		return head, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !verifyAs(pin, deltaContext, text, signature) {
		return head, fmt.Errorf("%w: the delta is not signed by %s (key %s)", ErrUntrusted, pinPath(data), fingerprint(pin))
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Schema != Schema {
		return head, fmt.Errorf("%w: the delta has schema %d, this breakwater reads %d", ErrSchema, head.Schema, Schema)
	}
	if digest, _, err := digestFile(filepath.Join(dir, deltaDBName)); err != nil || digest != head.SHA256 {
		return head, errors.Join(err, fmt.Errorf("%w: %s is not what was signed", ErrCorrupt, deltaDBName))
	}
	return head, nil
}

// patch fills the database with the earlier rows and a delta's.
func (w *writer) patch(ctx context.Context, from, delta string) (err error) {
	if err := errors.Join(w.attach(ctx, from, "earlier"), w.attach(ctx, delta, "delta")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.detach(ctx, "earlier"), w.detach(ctx, "delta")) }()
	if err := w.begin(ctx); err != nil {
		return err
	}
	for _, t := range tables() {
		for _, query := range []string{
			strings.NewReplacer("$t", t.name, "$key", t.key).Replace("INSERT INTO main.$t SELECT * FROM earlier.$t WHERE ($key) NOT IN (SELECT $key FROM delta.gone_$t) AND ($key) NOT IN (SELECT $key FROM delta.$t)"),
			fmt.Sprintf("INSERT INTO main.%s SELECT * FROM delta.%s", t.name, t.name),
		} {
			if _, err := w.tx.ExecContext(ctx, query); err != nil {
				return w.end(err)
			}
		}
	}
	return w.end(nil)
}
