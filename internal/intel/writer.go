package intel

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

//go:embed schema.sql
var schemaSQL string

// writer fills the database of a bundle that is being built. It is used by one
// goroutine. Rows of one feed are written within one transaction: a feed that
// fails half way leaves none.
type writer struct {
	db *sql.DB
	tx *sql.Tx

	others int // rows besides advisories since begin

	advisory, affected, rating, exploited, likelihood, malware, indicator, detection *sql.Stmt
}

// newWriter makes the database. Nothing of it need survive a crash before
// finish, so that no journal is kept.
func newWriter(ctx context.Context, path string) (*writer, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(MEMORY)&_pragma=synchronous(OFF)&_pragma=cache_size(-65536)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schemaSQL+fmt.Sprintf("\nPRAGMA user_version = %d;", Schema)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &writer{db: db}, nil
}

// begin starts a feed.
func (w *writer) begin(ctx context.Context) (err error) {
	if w.tx, err = w.db.BeginTx(ctx, nil); err != nil {
		return err
	}
	w.others = 0
	prepare := func(query string) *sql.Stmt {
		stmt, e := w.tx.PrepareContext(ctx, query)
		err = errors.Join(err, e)
		return stmt
	}
	w.advisory = prepare(`INSERT INTO advisory VALUES (?1, ?2, ?3)
		ON CONFLICT DO UPDATE SET detail = excluded.detail WHERE length(excluded.detail) > length(detail)`)
	w.affected = prepare("INSERT OR IGNORE INTO affected VALUES (?1, ?2, ?3, ?4, ?5)")
	w.rating = prepare("INSERT OR IGNORE INTO rating VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
	w.exploited = prepare("INSERT OR IGNORE INTO exploited VALUES (?1, ?2, ?3)")
	w.likelihood = prepare("INSERT OR IGNORE INTO likelihood VALUES (?1, ?2, ?3, ?4)")
	w.malware = prepare("INSERT OR IGNORE INTO malware VALUES (?1, ?2, ?3)")
	w.indicator = prepare("INSERT OR IGNORE INTO indicator VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
	w.detection = prepare("INSERT INTO detection VALUES (?1, ?2, ?3)")
	if err != nil {
		return errors.Join(err, w.tx.Rollback())
	}
	return nil
}

// end commits the feed, or takes it back when it failed.
func (w *writer) end(failed error) error {
	if failed != nil {
		return errors.Join(failed, w.tx.Rollback())
	}
	return w.tx.Commit()
}

// rowID: a record is what a publisher gives out under one name; of what it says about a
// vulnerability the rows are named after both, so that a record can be replaced.
func rowID(record, vulnerability string) string {
	if record == vulnerability {
		return record
	}
	return record + "#" + vulnerability
}

// add writes an advisory of a record with those of its packages that keep names. Of an id that
// comes more than once in a feed (Debian's, per source package) the fuller
// details stay.
func (w *writer) add(ctx context.Context, name, record string, a vuln.Advisory, keep func(ecosystem string) bool) error {
	groups := byPackage(a.Affected, keep)
	if len(groups) == 0 {
		return nil
	}
	detail, err := pack(a)
	if err != nil {
		return err
	}
	id := rowID(record, a.ID)
	if _, err := w.advisory.ExecContext(ctx, name, id, detail); err != nil {
		return err
	}
	for _, g := range groups {
		versions, err := encodeAffected(g)
		if err != nil {
			return err
		}
		if _, err := w.affected.ExecContext(ctx, g[0].Ecosystem, g[0].Name, name, id, versions); err != nil {
			return err
		}
	}
	return nil
}

// merge adds an advisory of a record of which more than one part may come, each about other
// packages, or about other versions of the same.
func (w *writer) merge(ctx context.Context, name, record string, a vuln.Advisory) error {
	id := rowID(record, a.ID)
	for _, g := range byPackage(a.Affected, every) {
		var row []byte
		err := w.tx.QueryRowContext(ctx, "SELECT versions FROM affected WHERE ecosystem = ?1 AND name = ?2 AND feed = ?3 AND id = ?4",
			g[0].Ecosystem, g[0].Name, name, id).Scan(&row)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		before, err := decodeAffected(row, newUnpacker())
		if err != nil {
			return err
		}
		versions, err := encodeAffected(append(before, g...))
		if err != nil {
			return err
		}
		if _, err := w.tx.ExecContext(ctx, "UPDATE affected SET versions = ?1 WHERE ecosystem = ?2 AND name = ?3 AND feed = ?4 AND id = ?5",
			versions, g[0].Ecosystem, g[0].Name, name, id); err != nil {
			return err
		}
	}
	return w.add(ctx, name, record, a, every)
}

// byPackage groups what is said about the same package of the same ecosystem.
func byPackage(affected []vuln.Affected, keep func(string) bool) [][]vuln.Affected {
	kept := slices.DeleteFunc(slices.Clone(affected), func(a vuln.Affected) bool { return !keep(a.Ecosystem) })
	for i := range kept {
		kept[i].Name = vuln.Name(kept[i].Ecosystem, kept[i].Name)
	}
	slices.SortStableFunc(kept, func(a, b vuln.Affected) int {
		return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Name, b.Name))
	})
	var groups [][]vuln.Affected
	for i, a := range kept {
		if i > 0 && a.Ecosystem == kept[i-1].Ecosystem && a.Name == kept[i-1].Name {
			last := len(groups) - 1
			groups[last] = append(groups[last], a)
			continue
		}
		groups = append(groups, []vuln.Affected{a})
	}
	return groups
}

// rate records an advisory's severity for the CVEs that it is about.
func (w *writer) rate(ctx context.Context, name, record string, a vuln.Advisory) error {
	if a.Severity.Rank() <= event.SeverityUnknown.Rank() {
		return nil
	}
	for _, id := range append([]string{a.ID}, a.Aliases...) {
		if !strings.HasPrefix(id, "CVE-") {
			continue
		}
		w.others++
		if _, err := w.rating.ExecContext(ctx, id, name, record, string(a.Severity), a.SeveritySource, a.CVSS); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) score(ctx context.Context, name, record string, r feed.Rating) error {
	w.others++
	_, err := w.rating.ExecContext(ctx, r.CVE, name, record, string(r.Severity), r.Source, r.Vector)
	return err
}

func (w *writer) exploit(ctx context.Context, name string, e feed.Exploited) error {
	w.others++
	_, err := w.exploited.ExecContext(ctx, e.CVE, name, e.Added)
	return err
}

func (w *writer) likely(ctx context.Context, name string, e feed.Exploitability) error {
	w.others++
	_, err := w.likelihood.ExecContext(ctx, e.CVE, name, e.Score, e.Percentile)
	return err
}

func (w *writer) observe(ctx context.Context, name string, o feed.Observable) error {
	w.others++
	if o.Kind.IsHash() {
		hash, err := hex.DecodeString(o.Value)
		if err != nil {
			return err
		}
		_, err = w.malware.ExecContext(ctx, hash, name, o.Name)
		return err
	}
	ends := int64(0)
	if !o.Ends.IsZero() {
		ends = o.Ends.Unix()
	}
	_, err := w.indicator.ExecContext(ctx, string(o.Kind), o.Value, name, o.Name, o.Confidence, ends)
	return err
}

func (w *writer) detect(ctx context.Context, name, file string, text []byte) error {
	w.others++
	_, err := w.detection.ExecContext(ctx, name, file, text)
	return err
}

// table of a bundle, with the columns that its rows are told apart by.
type table struct {
	name, key string
	// record says that id is a record's name, or begins with it.
	record bool
}

// tables are those that hold publishers' data.
func tables() []table {
	return []table{
		{"advisory", "feed, id", true}, {"affected", "ecosystem, name, feed, id", true}, {"rating", "cve, feed, id", true},
		{"exploited", "cve, feed", false}, {"likelihood", "cve, feed", false},
		{"malware", "hash, feed", false}, {"indicator", "kind, value, feed", false}, {"detection", "feed, name", false},
	}
}

// carry copies feeds' rows from the database of an earlier bundle, without those
// of the named records. Many feeds at once take no longer than one.
func (w *writer) carry(ctx context.Context, feeds []string, from string, without []string) (err error) {
	if len(feeds) == 0 {
		return nil
	}
	if err := w.attach(ctx, from, "earlier"); err != nil {
		return fmt.Errorf("the bundle before: %w", err)
	}
	defer func() { err = errors.Join(err, w.detach(ctx, "earlier")) }()
	if err := w.begin(ctx); err != nil {
		return err
	}
	return w.end(w.copyRows(ctx, feeds, without))
}

func (w *writer) attach(ctx context.Context, path, as string) error {
	_, err := w.db.ExecContext(ctx, "ATTACH DATABASE ?1 AS "+as, "file:"+path+"?mode=ro&immutable=1")
	return err
}

func (w *writer) detach(ctx context.Context, as string) error {
	_, err := w.db.ExecContext(ctx, "DETACH DATABASE "+as)
	return err
}

func (w *writer) copyRows(ctx context.Context, feeds, without []string) error {
	if err := errors.Join(w.fillSet(ctx, "wanted", feeds), w.fillSet(ctx, "without", without)); err != nil {
		return err
	}
	for _, t := range tables() {
		query := fmt.Sprintf("INSERT INTO main.%s SELECT * FROM earlier.%s WHERE feed IN temp.wanted", t.name, t.name)
		if t.record && len(without) > 0 {
			query += " AND substr(id, 1, instr(id || '#', '#') - 1) NOT IN temp.without"
		}
		if _, err := w.tx.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// fillSet makes a temporary table of one column that holds these values.
func (w *writer) fillSet(ctx context.Context, name string, values []string) error {
	if _, err := w.tx.ExecContext(ctx, fmt.Sprintf("CREATE TEMP TABLE IF NOT EXISTS %s (value TEXT PRIMARY KEY) WITHOUT ROWID; DELETE FROM temp.%s", name, name)); err != nil {
		return err
	}
	for _, v := range values {
		if _, err := w.tx.ExecContext(ctx, fmt.Sprintf("INSERT OR IGNORE INTO temp.%s VALUES (?1)", name), v); err != nil {
			return err
		}
	}
	return nil
}

// records is how many a feed gave since begin: advisories, or else the rows of
// its other kind.
func (w *writer) records(ctx context.Context, name string) (n int, err error) {
	err = w.db.QueryRowContext(ctx, "SELECT count(*) FROM advisory WHERE feed = ?1", name).Scan(&n)
	if n == 0 {
		n = w.others
	}
	return n, err
}

// ecosystems counts the vulnerabilities known per feed and ecosystem.
func (w *writer) ecosystems(ctx context.Context) (map[string]map[string]int, error) {
	rows, err := w.db.QueryContext(ctx, "SELECT feed, ecosystem, count(DISTINCT id) FROM affected GROUP BY feed, ecosystem")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	feeds := map[string]map[string]int{}
	for rows.Next() {
		var name, ecosystem string
		var n int
		if err := rows.Scan(&name, &ecosystem, &n); err != nil {
			return nil, err
		}
		if feeds[name] == nil {
			feeds[name] = map[string]int{}
		}
		feeds[name][ecosystem] = n
	}
	return feeds, rows.Err()
}

// finish writes the compact database to path. What VACUUM writes depends on the
// rows only, not on the order in which they came: that makes the build
// reproducible.
func (w *writer) finish(ctx context.Context, path string) error {
	err := errors.Join(
		w.makeFilter(ctx, "affected", "SELECT DISTINCT ecosystem, name FROM affected"),
		w.makeFilter(ctx, "malware", "SELECT DISTINCT hash, '' FROM malware"))
	if err == nil {
		_, err = w.db.ExecContext(ctx, "VACUUM INTO ?1", path)
	}
	return errors.Join(err, w.db.Close())
}

func (w *writer) makeFilter(ctx context.Context, name, query string) error {
	var keys int
	if err := w.db.QueryRowContext(ctx, "SELECT count(*) FROM ("+query+")").Scan(&keys); err != nil {
		return err
	}
	rows, err := w.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	f := newFilter(keys)
	for rows.Next() {
		var first sql.RawBytes
		var second string
		if err := rows.Scan(&first, &second); err != nil {
			return err
		}
		if name == "malware" {
			f.add(fileHash(first))
			continue
		}
		f.add(packageHash(string(first), second))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	_, err = w.db.ExecContext(ctx, "INSERT INTO filter VALUES (?1, ?2)", name, []byte(f))
	return err
}
