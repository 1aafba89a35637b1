package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// ThingKind says what a Thing is.
type ThingKind string

// The kinds of things that images hold and that can be asked for.
const (
	ThingPackage       ThingKind = "package"
	ThingVulnerability ThingKind = "vulnerability"
	ThingSecret        ThingKind = "secret"
	ThingMalware       ThingKind = "malware"
)

// Thing is what one or more images hold. Which fields are set follows from Kind.
type Thing struct {
	Kind ThingKind `json:"kind"`
	// Name is the package's, the vulnerability's id, the rule that knows the
	// secret, or what the malware is called.
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"` // of a vulnerability
	Title   string   `json:"title,omitempty"`
	// Package is the one that a vulnerability is in, or the package itself,
	// without where it lies.
	Package  *event.Package `json:"package,omitempty"`
	Severity event.Severity `json:"severity,omitempty"`
	State    event.FixState `json:"state,omitempty"`
	Fixed    string         `json:"fixed,omitempty"` // version
	// KnownExploited: somebody uses the vulnerability.
	KnownExploited bool   `json:"knownExploited,omitempty"`
	Path           string `json:"path,omitempty"` // of a secret or malware
	Deleted        bool   `json:"deleted,omitempty"`
	// Distro of a package, by which it is judged.
	Distro *report.Distro `json:"distro,omitempty"`
}

// names under which a thing is found, in lower case.
func (t Thing) names() []string {
	all := append([]string{t.Name}, t.Aliases...)
	if t.Kind == ThingPackage {
		all = append(all, t.Package.Source)
	}
	seen := map[string]bool{"": true}
	var out []string
	for _, n := range all {
		if n = strings.ToLower(n); !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// bare is a package without what differs from image to image.
func bare(p event.Package) *event.Package {
	p.Path, p.Layer, p.LayerIndex, p.Step, p.Licenses = "", "", 0, "", nil
	return &p
}

func packageThing(d report.Distro, p event.Package) Thing {
	return Thing{Kind: ThingPackage, Name: p.Name, Package: bare(p), Distro: &report.Distro{ID: d.ID, Version: d.Version, Codename: d.Codename}}
}

func findingThing(f event.Finding) Thing {
	return Thing{Kind: ThingVulnerability, Name: f.ID, Aliases: f.Aliases, Title: f.Title, Package: bare(f.Package), Severity: f.Severity,
		State: f.State, Fixed: f.FixedVersion, KnownExploited: f.KnownExploited}
}

// indexer finds or makes the rows of things within one transaction. What it
// found or wrote it remembers until then: images of one batch share most of what
// they hold.
type indexer struct {
	tx                           *sql.Tx
	find, add, say               *sql.Stmt
	hold, holdMany, release      *sql.Stmt
	affected, affect, affectLess *sql.Stmt
	shared                       *sql.Stmt

	things   map[thingKey]thingRow
	known    map[packageOf]thingRow
	findings map[int64]map[int64]bool // vulnerabilities by package
}

// thingKey begins the digest of a thing's body.
type thingKey [16]byte

// packageOf is a package of one distribution's release.
type packageOf struct {
	distro  report.Distro
	release packageKey
}

// heldAtOnce is how many rows of holds one statement writes.
const heldAtOnce = 32

// thingRow is the row of a thing.
type thingRow struct {
	id     int64
	judged bool // the server knows what is to be found of it
	isNew  bool
}

func newIndexer(ctx context.Context, tx *sql.Tx) (*indexer, error) {
	ix := &indexer{tx: tx, things: map[thingKey]thingRow{}, known: map[packageOf]thingRow{}, findings: map[int64]map[int64]bool{}}
	for _, p := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&ix.find, "SELECT id, gist IS NOT NULL FROM things WHERE key = $1"},
		{&ix.add, "INSERT INTO things (key, kind, body) VALUES ($1, $2, $3) RETURNING id"},
		{&ix.say, "INSERT INTO names (kind, name, thing) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"},
		{&ix.hold, "INSERT INTO holds (thing, image) VALUES ($1, $2) ON CONFLICT DO NOTHING"},
		{&ix.holdMany, "INSERT INTO holds (thing, image) VALUES " + strings.Repeat("(?, ?), ", heldAtOnce-1) + "(?, ?) ON CONFLICT DO NOTHING"},
		{&ix.release, "DELETE FROM holds WHERE thing = $1 AND image = $2"},
		{&ix.shared, "SELECT COUNT(*) > 1 FROM (SELECT 1 FROM holds WHERE thing = $1 LIMIT 2) h"},
		{&ix.affected, "SELECT vulnerability FROM affects WHERE package = $1"},
		{&ix.affect, "INSERT INTO affects (package, vulnerability) VALUES ($1, $2) ON CONFLICT DO NOTHING"},
		{&ix.affectLess, "DELETE FROM affects WHERE package = $1 AND vulnerability = $2"},
	} {
		stmt, err := tx.PrepareContext(ctx, p.query) //nolint:sqlclosecheck // closed with the transaction
		if err != nil {
			return nil, err
		}
		*p.to = stmt
	}
	return ix, nil
}

// id is the row of a thing, which is made when it is new.
func (ix *indexer) id(ctx context.Context, t Thing) (row thingRow, err error) {
	body, err := json.Marshal(t)
	if err != nil {
		return row, err
	}
	sum := sha256.Sum256(body)
	key := thingKey(sum[:16])
	if row, ok := ix.things[key]; ok {
		return row, nil
	}
	err = ix.find.QueryRowContext(ctx, key[:]).Scan(&row.id, &row.judged)
	if err == nil {
		ix.things[key] = row
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return row, err
	}
	if err := ix.add.QueryRowContext(ctx, key[:], t.Kind, body).Scan(&row.id); err != nil {
		return row, err
	}
	ix.things[key] = row // who asks again finds it old
	row.isNew = true
	for _, name := range t.names() {
		if _, err := ix.say.ExecContext(ctx, t.Kind, name, row.id); err != nil {
			return row, err
		}
	}
	return row, nil
}

// image makes an image answer for what its report says it holds.
func (ix *indexer) image(ctx context.Context, rep report.Report) error {
	number, isNew, err := imageNumber(ctx, ix.tx, rep.Image.Digest)
	if err != nil {
		return err
	}
	order, ids, err := ix.packages(ctx, rep)
	if err != nil {
		return err
	}
	want := map[int64]bool{}
	for _, id := range order {
		want[id] = true
	}
	for _, t := range contentThings(rep) {
		row, err := ix.id(ctx, t)
		if err != nil {
			return err
		}
		want[row.id] = true
	}
	if isNew {
		err = ix.holdAll(ctx, number, slices.Sorted(maps.Keys(want)))
	} else {
		err = ix.holds(ctx, number, want)
	}
	if err != nil {
		return err
	}
	if err := ix.found(ctx, rep, ids); err != nil {
		return err
	}
	if err := putSpared(ctx, ix.tx, number, rep.Findings, excludedOf(rep)); err != nil {
		return err
	}
	return putInventory(ctx, ix.tx, number, order, rep)
}

// packages are the rows of a report's packages, in its order, and by their key.
func (ix *indexer) packages(ctx context.Context, rep report.Report) (order []int64, rows map[packageKey]thingRow, err error) {
	rows = map[packageKey]thingRow{}
	for _, p := range rep.Packages {
		row, ok := rows[keyOf(p)]
		if !ok {
			if row, err = ix.packageRow(ctx, rep.Distro, p); err != nil {
				return nil, nil, err
			}
			rows[keyOf(p)] = row
		}
		order = append(order, row.id)
	}
	return order, rows, nil
}

func (ix *indexer) packageRow(ctx context.Context, d report.Distro, p event.Package) (thingRow, error) {
	t := packageThing(d, p)
	key := packageOf{*t.Distro, keyOf(p)}
	row, ok := ix.known[key]
	if ok {
		return row, nil
	}
	row, err := ix.id(ctx, t)
	if err == nil {
		again := row
		again.isNew = false
		ix.known[key] = again
	}
	return row, err
}

// holdAll makes a new image hold these things.
func (ix *indexer) holdAll(ctx context.Context, image int64, ids []int64) error {
	for ; len(ids) >= heldAtOnce; ids = ids[heldAtOnce:] {
		args := make([]any, 0, 2*heldAtOnce)
		for _, id := range ids[:heldAtOnce] {
			args = append(args, id, image)
		}
		if _, err := ix.holdMany.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if _, err := ix.hold.ExecContext(ctx, id, image); err != nil {
			return err
		}
	}
	return nil
}

// holds makes an image hold exactly these things.
func (ix *indexer) holds(ctx context.Context, image int64, want map[int64]bool) error {
	have, err := held(ctx, ix.tx, image)
	if err != nil {
		return err
	}
	for id := range want {
		if !have[id] {
			if _, err := ix.hold.ExecContext(ctx, id, image); err != nil {
				return err
			}
		}
	}
	for id := range have {
		if !want[id] {
			if _, err := ix.release.ExecContext(ctx, id, image); err != nil {
				return err
			}
		}
	}
	return nil
}

// packageKey tells packages of one image apart.
type packageKey struct {
	name, version, ecosystem, purl, source, sourceVersion, arch, module, owner string
	locked                                                                     bool
}

func keyOf(p event.Package) packageKey {
	return packageKey{p.Name, p.Version, p.Ecosystem, p.PURL, p.Source, p.SourceVersion, p.Arch, p.Module, p.Owner, p.Locked}
}

// contentThings are what a report holds besides packages and their
// vulnerabilities.
func contentThings(rep report.Report) []Thing {
	var out []Thing
	for _, x := range rep.Secrets {
		out = append(out, Thing{Kind: ThingSecret, Name: x.Rule, Title: x.Title, Severity: x.Severity, Path: x.Place.Path, Deleted: x.Place.Deleted})
	}
	for _, m := range rep.Malware {
		out = append(out, Thing{Kind: ThingMalware, Name: m.Name, Title: m.Reason, Severity: m.Severity, Path: m.Place.Path, Deleted: m.Place.Deleted})
	}
	return out
}

// imageNumber finds or makes an image's number; isNew: nothing is known of the
// image yet.
func imageNumber(ctx context.Context, tx *sql.Tx, digest string) (n int64, isNew bool, err error) {
	err = tx.QueryRowContext(ctx, "INSERT INTO image_numbers (digest) VALUES ($1) ON CONFLICT DO NOTHING RETURNING number", digest).Scan(&n)
	if !errors.Is(err, sql.ErrNoRows) {
		return n, err == nil, err
	}
	err = tx.QueryRowContext(ctx, "SELECT number FROM image_numbers WHERE digest = $1", digest).Scan(&n)
	return n, false, err
}

// held are the things that the index says an image holds.
func held(ctx context.Context, tx *sql.Tx, image int64) (map[int64]bool, error) {
	rows, err := tx.QueryContext(ctx, "SELECT thing FROM holds WHERE image = $1", image)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out[id] = true
	}
	return out, rows.Err()
}

// IndexOld makes images that an older program stored answer for what they
// hold. It returns how many there were.
func (s *Store) IndexOld(ctx context.Context) (int, error) {
	const op = "index images"
	digests, err := list(ctx, s, op, func(row scanner) (d string, err error) {
		err = row.Scan(&d)
		return d, err
	}, "SELECT digest FROM images WHERE digest NOT IN (SELECT n.digest FROM image_numbers n JOIN inventories v ON v.image = n.number) ORDER BY digest")
	for i, digest := range digests {
		rep, err := s.report(ctx, op, digest)
		if err == nil {
			err = s.tx(ctx, op, func(tx *sql.Tx) error {
				ix, err := newIndexer(ctx, tx)
				if err != nil {
					return err
				}
				return ix.image(ctx, rep)
			})
		}
		if err != nil {
			return i, fmt.Errorf("image %s: %w", digest, err)
		}
	}
	return len(digests), err
}
