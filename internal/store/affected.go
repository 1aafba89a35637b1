package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// found notes what a report found in its packages. Of a package that the server
// judged itself it knows better, and a report that nothing was matched for says
// nothing by its silence.
func (ix *indexer) found(ctx context.Context, rep report.Report, ids map[packageKey]thingRow) error {
	by := map[int64][]event.Finding{}
	for _, list := range [][]event.Finding{rep.Findings, excludedOf(rep)} {
		for _, f := range list {
			if row, ok := ids[keyOf(f.Package)]; ok {
				by[row.id] = append(by[row.id], f)
			}
		}
	}
	for _, row := range ids {
		findings := by[row.id]
		if row.judged || row.isNew && len(findings) == 0 {
			continue
		}
		have, err := ix.findingsOf(ctx, row.id)
		if err != nil {
			return err
		}
		if len(have) == 0 && len(findings) == 0 {
			continue
		}
		if rep.Intelligence == nil && len(findings) == 0 {
			var others bool
			if err := ix.shared.QueryRowContext(ctx, row.id).Scan(&others); err != nil {
				return err
			}
			if others {
				continue
			}
		}
		if err := ix.affects(ctx, row.id, findings); err != nil {
			return err
		}
	}
	return nil
}

// affects makes these findings, and no others, those of a package.
func (ix *indexer) affects(ctx context.Context, id int64, findings []event.Finding) error {
	have, err := ix.findingsOf(ctx, id)
	if err != nil {
		return err
	}
	want := map[int64]bool{}
	for _, f := range findings {
		v, err := ix.id(ctx, findingThing(f))
		if err != nil {
			return err
		}
		if have[v.id] || want[v.id] {
			want[v.id] = true
			continue
		}
		want[v.id] = true
		if _, err := ix.affect.ExecContext(ctx, id, v.id); err != nil {
			return err
		}
	}
	for v := range have {
		if !want[v] {
			if _, err := ix.affectLess.ExecContext(ctx, id, v); err != nil {
				return err
			}
		}
	}
	ix.findings[id] = want
	return nil
}

// findingsOf are the vulnerabilities that a package is known to have.
func (ix *indexer) findingsOf(ctx context.Context, id int64) (map[int64]bool, error) {
	have, ok := ix.findings[id]
	if ok {
		return have, nil
	}
	have, err := numbersOf(ctx, ix.affected, id)
	if err == nil {
		ix.findings[id] = have
	}
	return have, err
}

func numbersOf(ctx context.Context, query *sql.Stmt, id int64) (map[int64]bool, error) {
	rows, err := query.QueryContext(ctx, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out map[int64]bool // most have none
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		if out == nil {
			out = map[int64]bool{}
		}
		out[n] = true
	}
	return out, rows.Err()
}

// Affected is a package and what is found of it.
type Affected struct {
	Package  Stocked
	Findings []event.Finding // without their Package
}

// SetAffected makes findings those of packages, in one transaction.
func (s *Store) SetAffected(ctx context.Context, all []Affected) error {
	return s.tx(ctx, "findings of packages", func(tx *sql.Tx) error {
		ix, err := newIndexer(ctx, tx)
		if err != nil {
			return err
		}
		for _, a := range all {
			findings := make([]event.Finding, len(a.Findings))
			for i, f := range a.Findings {
				f.Package = a.Package.Package
				findings[i] = f
			}
			if err := ix.affects(ctx, a.Package.ID, findings); err != nil {
				return err
			}
		}
		return nil
	})
}

// excludedOf are findings of a report that do not count in its image.
func excludedOf(rep report.Report) []event.Finding {
	out := append([]event.Finding{}, rep.Excluded...)
	for _, a := range rep.Accepted {
		if a.Finding != nil {
			out = append(out, *a.Finding)
		}
	}
	return out
}

// putSpared notes which vulnerabilities an image does not answer for, though
// its packages have them.
func putSpared(ctx context.Context, tx *sql.Tx, image int64, findings, excluded []event.Finding) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM spares WHERE image = $1", image); err != nil || len(excluded) == 0 {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT h.thing, a.vulnerability, t.body FROM holds h JOIN affects a ON a.package = h.thing JOIN things t ON t.id = a.vulnerability
		WHERE h.image = $1`, image)
	if err != nil {
		return err
	}
	defer rows.Close()
	spared := map[string]bool{}
	for _, f := range excluded {
		spared[f.ID+" "+f.Package.PURL] = true
	}
	for _, f := range findings { // it lies in another place too
		delete(spared, f.ID+" "+f.Package.PURL)
	}
	var pairs [][2]int64
	for rows.Next() {
		var pair [2]int64
		var body []byte
		if err := rows.Scan(&pair[0], &pair[1], &body); err != nil {
			return err
		}
		var t Thing
		if err := json.Unmarshal(body, &t); err != nil {
			return err
		}
		if t.Package != nil && spared[t.Name+" "+t.Package.PURL] {
			pairs = append(pairs, pair)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, p := range pairs {
		if _, err := tx.ExecContext(ctx, "INSERT INTO spares (image, package, vulnerability) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", image, p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}
