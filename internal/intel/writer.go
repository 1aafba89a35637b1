package intel

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
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

	advisory, affected, rating, exploited *sql.Stmt
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
	prepare := func(query string) *sql.Stmt {
		stmt, e := w.tx.PrepareContext(ctx, query)
		err = errors.Join(err, e)
		return stmt
	}
	w.advisory = prepare(`INSERT INTO advisory VALUES (?1, ?2, ?3)
		ON CONFLICT DO UPDATE SET detail = excluded.detail WHERE length(excluded.detail) > length(detail)`)
	w.affected = prepare("INSERT OR IGNORE INTO affected VALUES (?1, ?2, ?3, ?4, ?5)")
	w.rating = prepare("INSERT OR IGNORE INTO rating VALUES (?1, ?2, ?3, ?4, ?5)")
	w.exploited = prepare("INSERT OR IGNORE INTO exploited VALUES (?1, ?2, ?3)")
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

// add writes an advisory with those of its packages that keep names. Of an id that
// comes more than once in a feed (Debian's, per source package) the fuller
// details stay.
func (w *writer) add(ctx context.Context, name string, a vuln.Advisory, keep func(ecosystem string) bool) error {
	groups := byPackage(a.Affected, keep)
	if len(groups) == 0 {
		return nil
	}
	detail, err := pack(a)
	if err != nil {
		return err
	}
	if _, err := w.advisory.ExecContext(ctx, name, a.ID, detail); err != nil {
		return err
	}
	for _, g := range groups {
		versions, err := pack(g)
		if err != nil {
			return err
		}
		if _, err := w.affected.ExecContext(ctx, g[0].Ecosystem, g[0].Name, name, a.ID, versions); err != nil {
			return err
		}
	}
	return nil
}

// byPackage groups what is said about the same package of the same ecosystem.
func byPackage(affected []vuln.Affected, keep func(string) bool) [][]vuln.Affected {
	kept := slices.DeleteFunc(slices.Clone(affected), func(a vuln.Affected) bool { return !keep(a.Ecosystem) })
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
func (w *writer) rate(ctx context.Context, name string, a vuln.Advisory) error {
	if a.Severity.Rank() <= event.SeverityUnknown.Rank() {
		return nil
	}
	for _, id := range append([]string{a.ID}, a.Aliases...) {
		if !strings.HasPrefix(id, "CVE-") {
			continue
		}
		if _, err := w.rating.ExecContext(ctx, id, name, string(a.Severity), a.SeveritySource, a.CVSS); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) exploit(ctx context.Context, name string, e feed.Exploited) error {
	_, err := w.exploited.ExecContext(ctx, e.CVE, name, e.Added)
	return err
}

// carry copies a feed's rows from the database of an earlier bundle.
func (w *writer) carry(ctx context.Context, name, from string) (err error) {
	if _, err := w.db.ExecContext(ctx, "ATTACH DATABASE ?1 AS earlier", "file:"+from+"?mode=ro&immutable=1"); err != nil {
		return fmt.Errorf("the bundle before: %w", err)
	}
	defer func() {
		_, e := w.db.ExecContext(ctx, "DETACH DATABASE earlier")
		err = errors.Join(err, e)
	}()
	if err := w.begin(ctx); err != nil {
		return err
	}
	for _, table := range []string{"advisory", "affected", "rating", "exploited"} {
		query := fmt.Sprintf("INSERT INTO main.%s SELECT * FROM earlier.%s WHERE feed = ?1", table, table)
		if _, err := w.tx.ExecContext(ctx, query, name); err != nil {
			return w.end(err)
		}
	}
	return w.end(nil)
}

// counts is how many records a feed gave, in all (ratings, when it gave nothing
// else), and how many advisories per ecosystem.
func (w *writer) counts(ctx context.Context, name string) (records int, ecosystems map[string]int, err error) {
	const all = `SELECT coalesce(
		nullif((SELECT count(*) FROM advisory WHERE feed = ?1) + (SELECT count(*) FROM exploited WHERE feed = ?1), 0),
		(SELECT count(*) FROM rating WHERE feed = ?1))`
	if err := w.db.QueryRowContext(ctx, all, name).Scan(&records); err != nil {
		return 0, nil, err
	}
	rows, err := w.db.QueryContext(ctx, "SELECT ecosystem, count(DISTINCT id) FROM affected WHERE feed = ?1 GROUP BY ecosystem", name)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	ecosystems = map[string]int{}
	for rows.Next() {
		var ecosystem string
		var n int
		if err := rows.Scan(&ecosystem, &n); err != nil {
			return 0, nil, err
		}
		ecosystems[ecosystem] = n
	}
	return records, ecosystems, rows.Err()
}

// finish writes the compact database to path. What VACUUM writes depends on the
// rows only, not on the order in which they came: that makes the build
// reproducible.
func (w *writer) finish(ctx context.Context, path string) error {
	_, err := w.db.ExecContext(ctx, "VACUUM INTO ?1", path)
	return errors.Join(err, w.db.Close())
}
