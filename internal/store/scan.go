package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/report"
)

// PutReport stores a report that the server made itself.
func (s *Store) PutReport(ctx context.Context, rep report.Report) error {
	_, err := s.putReport(ctx, rep, "")
	return err
}

// PutMatched stores a report that is known already, with new findings: whose
// word the rest of it is stays as it was.
func (s *Store) PutMatched(ctx context.Context, rep report.Report) error {
	var by string
	err := s.read.QueryRowContext(ctx, "SELECT origin FROM images WHERE digest = $1", rep.Image.Digest).Scan(&by)
	if err != nil {
		return s.wrap("origin of a report", err)
	}
	_, err = s.putReport(ctx, rep, by)
	return err
}

// PutScan stores a report that a CI sent. It replaces only what a CI sent: what
// a host or the server read themselves is not for a pipeline to change. kept
// says whether it was stored.
func (s *Store) PutScan(ctx context.Context, rep report.Report, by Actor) (kept bool, err error) {
	return s.putReport(ctx, rep, by.Name)
}

func (s *Store) putReport(ctx context.Context, rep report.Report, origin string) (kept bool, err error) {
	if !validDigest(rep.Image.Digest) {
		return false, fmt.Errorf("report: image digest %q is not sha256: and 64 hex digits", rep.Image.Digest)
	}
	body, err := json.Marshal(rep)
	if err != nil {
		return false, err
	}
	if len(body) > MaxReport {
		return false, fmt.Errorf("report of %s has %d bytes, more than %d", rep.Image.Name(), len(body), MaxReport)
	}
	err = s.tx(ctx, "keep report", func(tx *sql.Tx) error {
		if origin == "" {
			kept = true
			return putImage(ctx, tx, rep, body)
		}
		var have string
		err := tx.QueryRowContext(ctx, "SELECT origin FROM images WHERE digest = $1", rep.Image.Digest).Scan(&have)
		if err == nil && have == "" {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		kept = true
		if err := putImage(ctx, tx, rep, body); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE images SET origin = $1 WHERE digest = $2", origin, rep.Image.Digest)
		return err
	})
	return kept, err
}
