package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// PutReport stores a report that the server made itself.
func (s *Store) PutReport(ctx context.Context, rep report.Report) error {
	_, err := s.putReport(ctx, rep, "", nil)
	return err
}

// PutScan stores a report that a CI sent, and its verdict. It replaces only what
// a CI sent: what a host or the server read themselves is not for a pipeline to
// change. kept says whether it was stored.
func (s *Store) PutScan(ctx context.Context, rep report.Report, by Actor) (kept bool, err error) {
	return s.putReport(ctx, rep, by.Name, rep.Verdict)
}

// putReport stores a report, and judges its image by v unless that is nil.
func (s *Store) putReport(ctx context.Context, rep report.Report, origin string, v *event.Verdict) (kept bool, err error) {
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
		kept, err = keepReport(ctx, tx, rep, s.packer.EncodeAll(body, nil), origin)
		if err == nil && kept && v != nil {
			_, err = s.keepJudged(ctx, tx, []Judged{{Digest: rep.Image.Digest, Pipeline: origin, Verdict: *v}})
		}
		return err
	})
	return kept, err
}

// keepReport stores a report unless it is a pipeline's about an image that was read.
func keepReport(ctx context.Context, tx *sql.Tx, rep report.Report, packed []byte, origin string) (kept bool, err error) {
	if origin != "" {
		var have string
		err := tx.QueryRowContext(ctx, "SELECT origin FROM images WHERE digest = $1", rep.Image.Digest).Scan(&have)
		if err == nil && have == "" {
			return false, nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
	}
	ix, err := newIndexer(ctx, tx)
	if err != nil {
		return false, err
	}
	return true, putImage(ctx, ix, rep, packed, origin)
}
