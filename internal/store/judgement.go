package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// turned makes an incident on each host where an image runs that is refused now.
func turned(ctx context.Context, tx *sql.Tx, now int64, change event.ImageVerdict) ([]Incident, error) {
	all, err := turnedEverywhere(ctx, tx, now, change)
	if err != nil {
		return nil, err
	}
	in := ingest{tx: tx, agent: serverAgent, now: now}
	for _, inc := range all {
		body, err := json.Marshal(inc)
		if err == nil {
			err = in.incident(ctx, api.Record{Kind: api.RecordIncident, Key: inc.Key, Time: inc.Time, Body: body})
		}
		if err != nil {
			return nil, err
		}
	}
	return in.done.Incidents, nil
}

func turnedEverywhere(ctx context.Context, tx *sql.Tx, now int64, change event.ImageVerdict) ([]event.Incident, error) {
	rows, err := tx.QueryContext(ctx, `SELECT a.host, MIN(c.id), MIN(c.name), COUNT(*) FROM containers c JOIN agents a ON a.id = c.agent
		WHERE c.image = $1 GROUP BY a.host ORDER BY a.host LIMIT 500`, change.Image.Digest)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []event.Incident
	for rows.Next() {
		var host, id, name string
		var n int
		if err := rows.Scan(&host, &id, &name, &n); err != nil {
			return nil, err
		}
		all = append(all, turnedOn(host, event.Container{ID: id, Name: name, Image: change.Image}, n, fromNanos(now), change))
	}
	return all, rows.Err()
}

func turnedOn(host string, c event.Container, n int, at time.Time, change event.ImageVerdict) event.Incident {
	first := event.Violation{Message: "A rule is violated"}
	if v := change.Verdict.Violations; len(v) > 0 {
		first = v[0]
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" and %d more containers", n-1)
	}
	return event.Incident{
		Key: "turned/" + change.Image.Digest + "/" + rand.Text(), Time: at, Host: host, Severity: event.SeverityHigh, Title: "Running image is refused now",
		Sentence: fmt.Sprintf("`%s`%s runs the image `%s`, which policy allowed and refuses now: %s. It was not stopped.", c.Name, more, change.Image.Name(), first.Message),
		Decision: event.Decision{Control: event.ControlImage, Effect: event.EffectAlert, Outcome: event.Detected, Why: first.Message, Policy: first.Policy, Rule: first.Rule,
			Generation: change.Verdict.Generation},
		Container: &c,
		Event:     event.Event{Key: "turned/" + change.Image.Digest, Kind: event.KindImage, Time: at, Host: host, Container: &c, Image: &change},
	}
}

// Stocked is a package that images hold, as the server judges it.
type Stocked struct {
	ID      int64
	Distro  report.Distro
	Package event.Package
	// Print is what the server found of it last; Known is false before.
	Print uint64
	Known bool
}

// stockChunk is how many packages are decoded at a time, beside others.
const stockChunk = 4096

// stockRow is a package as it is stored.
type stockRow struct {
	id          int64
	body, print []byte
}

// StockSize is how many distinct packages all images have.
func (s *Store) StockSize(ctx context.Context) (int, error) {
	return one(ctx, s, "packages of all images", func(row scanner) (n int, err error) {
		err = row.Scan(&n)
		return n, err
	}, "SELECT COUNT(*) FROM things WHERE kind = $1", ThingPackage)
}

// Stock reads the first n distinct packages of all images, as StockSize counted
// them, some thousands at a time: f gets them with the place of the first one
// among all, on every core at once, and may not keep the list. The first error
// ends it.
func (s *Store) Stock(ctx context.Context, n int, f func(first int, some []Stocked) error) error {
	const op = "packages of all images"
	rows, err := s.read.QueryContext(ctx, "SELECT id, body, gist FROM things WHERE kind = $1 ORDER BY id LIMIT $2", ThingPackage, n)
	if err != nil {
		return s.wrap(op, err)
	}
	defer rows.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	first := 0
	for more := true; more && err == nil && ctx.Err() == nil; {
		chunk := make([]stockRow, 0, stockChunk)
		for more = rows.Next(); more; more = len(chunk) < stockChunk && rows.Next() {
			var r stockRow
			if err = rows.Scan(&r.id, &r.body, &r.print); err != nil {
				break
			}
			chunk = append(chunk, r)
		}
		at := first
		first += len(chunk)
		more = len(chunk) == stockChunk
		group.Go(func() error {
			some, err := readStock(chunk)
			if err != nil {
				return s.wrap(op, err)
			}
			return f(at, some)
		})
	}
	if waited := group.Wait(); waited != nil {
		return waited // what ended the others
	}
	return s.wrap(op, errors.Join(err, rows.Err()))
}

// readStock decodes packages. What thousands of them have in common is one value
// in memory.
func readStock(rows []stockRow) ([]Stocked, error) {
	into := make([]Stocked, len(rows))
	same, distros := map[string]string{}, map[report.Distro]report.Distro{}
	for i, r := range rows {
		p := &into[i]
		decoded, distro, err := decodeStocked(r.body)
		if err != nil {
			return nil, fmt.Errorf("package %d: %w", r.id, err)
		}
		d, ok := distros[distro]
		if !ok {
			d = distro
			distros[d] = d
		}
		p.ID, p.Package, p.Distro = r.id, decoded, d
		for _, field := range []*string{&p.Package.Ecosystem, &p.Package.Arch} {
			if _, ok := same[*field]; !ok {
				same[*field] = strings.Clone(*field)
			}
			*field = same[*field]
		}
		if len(r.print) == 8 {
			p.Print, p.Known = binary.BigEndian.Uint64(r.print), true
		}
	}
	return into, nil
}

// MatchedBy is the version of the bundle by which the server judged the stock
// last, "" at first.
func (s *Store) MatchedBy(ctx context.Context) (version string, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(bundle), '') FROM matched_by").Scan(&version)
	return version, s.wrap("matched by", err)
}

// Rejudgement is what a new bundle changed.
type Rejudgement struct {
	Before, Bundle string // versions
	Built          time.Time
	Prints         map[int64]uint64 // of packages of which it finds something else
	Changed        int              // packages of which it finds something else than was known
}

// Rejudged notes that every image was judged by the new bundle.
func (s *Store) Rejudged(ctx context.Context, r Rejudgement) error {
	return s.tx(ctx, "rejudged", func(tx *sql.Tx) error {
		update, err := tx.PrepareContext(ctx, "UPDATE things SET gist = $1 WHERE id = $2")
		if err != nil {
			return err
		}
		defer func() { _ = update.Close() }() // the transaction's end closes it too
		for id, print := range r.Prints {
			if _, err := update.ExecContext(ctx, binary.BigEndian.AppendUint64(nil, print), id); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "UPDATE bundles SET version = $1, built = $2 WHERE version = $3", r.Bundle, nanos(r.Built), r.Before); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM matched_by"); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO matched_by (bundle) VALUES ($1)", r.Bundle)
		return err
	})
}

// PruneThings forgets what no image holds any more.
func (s *Store) PruneThings(ctx context.Context) (int64, error) {
	var n int64
	err := s.tx(ctx, "prune things", func(tx *sql.Tx) error {
		for _, query := range []string{
			"DELETE FROM affects WHERE package NOT IN (SELECT thing FROM holds)",
			"DELETE FROM bundles WHERE id NOT IN (SELECT bundle_id FROM images)",
		} {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM things WHERE NOT EXISTS (SELECT 1 FROM holds WHERE thing = things.id)
			AND NOT EXISTS (SELECT 1 FROM affects WHERE vulnerability = things.id)`)
		if err != nil {
			return err
		}
		if n, err = res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM names WHERE thing NOT IN (SELECT id FROM things)")
		return err
	})
	return n, err
}

// Verdicts lists the changes of an image's verdict, the newest first, as long
// as their events are kept.
func (s *Store) Verdicts(ctx context.Context, digest string) ([]event.Event, error) {
	return list(ctx, s, "verdicts of image", func(row scanner) (e event.Event, err error) {
		var body []byte
		if err := row.Scan(&body); err != nil {
			return e, err
		}
		return e, json.Unmarshal(body, &e)
	}, "SELECT body FROM events WHERE agent = $1 AND key > $2 AND key < $3 ORDER BY id DESC LIMIT 50", serverAgent, verdictKey(digest), verdictKey(digest)+"~")
}

// verdictKey begins the keys of the changes of an image's verdict.
func verdictKey(digest string) string { return "verdict/" + digest + "/" }
