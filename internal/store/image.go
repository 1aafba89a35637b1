package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// MaxReport bounds a report's JSON, in bytes.
const MaxReport = 64 << 20

// Image is what lists show of one image.
type Image struct {
	Digest     string    `json:"digest"` // config digest
	Name       string    `json:"name"`
	References []string  `json:"references,omitempty"`
	Platform   string    `json:"platform,omitempty"`
	Scanned    time.Time `json:"scanned"`
	Judged     time.Time `json:"judged,omitzero"` // when Verdict was given
	// Matched is when the intelligence that Findings came from was built. Zero:
	// there was none, so that no finding says nothing.
	Matched  time.Time      `json:"matched,omitzero"`
	Worst    event.Severity `json:"worst,omitempty"` // of its findings; "" when it has none
	Findings int            `json:"findings"`
	Fixable  int            `json:"fixable"` // findings with a fixed version
	Packages int            `json:"packages"`
	Gaps     int            `json:"gaps"`
	Verdict  *event.Verdict `json:"verdict,omitempty"` // nil: not judged
	Running  int            `json:"running"`           // containers made of it, on all hosts
	// Pipeline is the name of the token by which a CI sent the report, which is
	// that pipeline's word alone: no host and not the server read the image. ""
	// when one did.
	Pipeline string `json:"pipeline,omitempty"`
}

func validDigest(d string) bool {
	hex, ok := strings.CutPrefix(d, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// isNewReport says whether a report is newer than all that the agent sent
// before, by its sequence, and takes note of it. One that is not was delivered
// again.
func isNewReport(ctx context.Context, tx *sql.Tx, agent, epoch string, seq uint64) (bool, error) {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO report_positions (agent, epoch, seq) VALUES ($1, $2, $3)
		ON CONFLICT (agent) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
		WHERE excluded.epoch <> report_positions.epoch OR excluded.seq > report_positions.seq`, agent, epoch, int64(seq))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// putImage stores a report under its image's digest; the last one that came
// counts, whatever the clocks of agents say. origin is the name of the pipeline
// whose word it is, "" for what a host or the server read. Between those two,
// verdicts are not compared: that a pipeline's report passed says nothing of
// what policy allowed.
func putImage(ctx context.Context, ix *indexer, rep report.Report, packed []byte, origin string) error {
	tx := ix.tx
	refs, err := json.Marshal(rep.Image.References)
	if err != nil {
		return err
	}
	var verdict []byte
	var judged int64
	refused := rep.Verdict != nil && !rep.Verdict.Allowed
	if rep.Verdict != nil {
		judged = nanos(rep.Time)
		if verdict, err = json.Marshal(rep.Verdict); err != nil {
			return err
		}
	}
	bundle, err := bundleNumber(ctx, tx, rep.Intelligence)
	if err != nil {
		return err
	}
	worst, fixable := summary(rep.Findings)
	name := rep.Image.Name()
	if rep.Target != "" && len(rep.Image.References) == 0 {
		name = rep.Target
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO images (digest, name, refs, platform, scanned, worst, findings, fixable, packages, gaps, refused, verdict, judged, bundle_id, origin)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (digest) DO UPDATE SET name = excluded.name, refs = excluded.refs, platform = excluded.platform,
			scanned = excluded.scanned, worst = excluded.worst, findings = excluded.findings, fixable = excluded.fixable,
			packages = excluded.packages, gaps = excluded.gaps, refused = excluded.refused, verdict = excluded.verdict, judged = excluded.judged,
			bundle_id = excluded.bundle_id,
			told = CASE WHEN (images.origin = '') = (excluded.origin = '') THEN images.told ELSE '' END, origin = excluded.origin`,
		rep.Image.Digest, name, string(refs), rep.Image.Platform, nanos(rep.Time), worst, len(rep.Findings), fixable,
		len(rep.Packages), len(rep.Gaps), refused, verdict, judged, bundle, origin)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO reports (digest, report) VALUES ($1, $2) ON CONFLICT (digest) DO UPDATE SET report = excluded.report", rep.Image.Digest, packed)
	if err != nil {
		return err
	}
	return ix.image(ctx, rep)
}

// summary is the rank of the worst finding (-1: none) and how many have a fix.
func summary(findings []event.Finding) (worst, fixable int) {
	worst = -1
	for _, f := range findings {
		worst = max(worst, f.Severity.Rank())
		if f.FixedVersion != "" {
			fixable++
		}
	}
	return worst, fixable
}

const imageColumns = `digest, name, refs, platform, scanned, judged, COALESCE((SELECT built FROM bundles b WHERE b.id = bundle_id), 0) AS matched, worst, findings, fixable, packages, gaps, verdict, origin,
	(SELECT COUNT(*) FROM containers c WHERE c.image = digest)`

func scanImage(row scanner) (Image, error) {
	var i Image
	var refs string
	var scanned, judged, matched int64
	var worst int
	var verdict []byte
	err := row.Scan(&i.Digest, &i.Name, &refs, &i.Platform, &scanned, &judged, &matched, &worst, &i.Findings, &i.Fixable, &i.Packages, &i.Gaps, &verdict, &i.Pipeline, &i.Running)
	if err != nil {
		return i, err
	}
	i.Scanned, i.Judged, i.Matched = fromNanos(scanned), fromNanos(judged), fromNanos(matched)
	if worst >= 0 {
		i.Worst = severityOf(worst)
	}
	if verdict != nil {
		err = json.Unmarshal(verdict, &i.Verdict)
	}
	return i, errors.Join(err, json.Unmarshal([]byte(refs), &i.References))
}

// ImageFilter selects images; the zero value selects all.
type ImageFilter struct {
	Text    string         // a part of a name or the beginning of a digest
	Worst   event.Severity // findings of this severity or worse
	Refused bool           // only those that policy refuses
	Running bool           // only those that run somewhere
	Limit   int            // at most MaxPage; 0 = 50
	Offset  int
}

// Images lists images, those that run first, then by the worst finding.
func (s *Store) Images(ctx context.Context, f ImageFilter) ([]Image, error) {
	w := &where{}
	if f.Text != "" {
		w.add(`(lower(name) LIKE % ESCAPE '\' OR lower(refs) LIKE % ESCAPE '\' OR digest LIKE % ESCAPE '\')`, likePattern(f.Text))
	}
	if rank := f.Worst.Rank(); rank > 0 {
		w.add("worst >= %", rank)
	}
	query := "SELECT digest, name, refs, platform, scanned, judged, matched, worst, findings, fixable, packages, gaps, verdict, origin, running FROM (SELECT " + imageColumns + " AS running, refused FROM images" + w.String() + ") AS i"
	var outer []string
	if f.Running {
		outer = append(outer, "running > 0")
	}
	if f.Refused {
		outer = append(outer, "refused = 1")
	}
	if len(outer) > 0 {
		query += " WHERE " + strings.Join(outer, " AND ")
	}
	query += fmt.Sprintf(" ORDER BY running > 0 DESC, worst DESC, name, digest LIMIT %d OFFSET %d", limit(f.Limit), max(0, f.Offset))
	return list(ctx, s, "list images", scanImage, query, w.args...)
}

// ImageCount says how many images there are, and of how many the
// vulnerabilities are not known because there was no intelligence.
type ImageCount struct{ All, Unmatched int }

// CountImages counts all images.
func (s *Store) CountImages(ctx context.Context) (ImageCount, error) {
	return one(ctx, s, "count images", func(row scanner) (c ImageCount, err error) {
		err = row.Scan(&c.All, &c.Unmatched)
		return c, err
	}, "SELECT COUNT(*), COUNT(CASE WHEN bundle_id = 0 THEN 1 END) FROM images")
}

// JudgedBy counts images by the policies that took part in their newest verdict.
func (s *Store) JudgedBy(ctx context.Context) (map[string]int, error) {
	verdicts, err := list(ctx, s, "verdicts of images", func(row scanner) (v struct{ Policies []string }, err error) {
		var body []byte
		if err := row.Scan(&body); err != nil {
			return v, err
		}
		return v, json.Unmarshal(body, &v)
	}, "SELECT verdict FROM images WHERE verdict IS NOT NULL")
	count := map[string]int{}
	for _, v := range verdicts {
		for _, name := range v.Policies {
			count[name]++
		}
	}
	return count, err
}

// Image returns one image with its whole report, or ErrNotFound. The report's
// own Verdict is what the scanner saw; Image.Verdict is the newest one.
func (s *Store) Image(ctx context.Context, digest string) (Image, report.Report, error) {
	op := fmt.Sprintf("image %q", digest)
	img, err := one(ctx, s, op, scanImage, "SELECT "+imageColumns+" FROM images WHERE digest = $1", digest)
	if err != nil {
		return Image{}, report.Report{}, err
	}
	rep, err := s.report(ctx, op, digest)
	return img, rep, err
}

func (s *Store) report(ctx context.Context, op, digest string) (report.Report, error) {
	return one(ctx, s, op, func(row scanner) (report.Report, error) {
		var rep report.Report
		var packed []byte
		if err := row.Scan(&packed); err != nil {
			return rep, err
		}
		body, err := unpack(packed)
		if err != nil {
			return rep, fmt.Errorf("its report: %w", err)
		}
		return rep, json.Unmarshal(body, &rep)
	}, "SELECT report FROM reports WHERE digest = $1", digest)
}

// Digests lists the digests of all images.
func (s *Store) Digests(ctx context.Context) ([]string, error) {
	return list(ctx, s, "list images", func(row scanner) (d string, err error) {
		err = row.Scan(&d)
		return d, err
	}, "SELECT digest FROM images ORDER BY digest")
}

// newPacker makes what compresses reports. One serves many, one after the other:
// making it takes longer than a report.
func newPacker() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
}

func unpack(packed []byte) ([]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*MaxReport))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return dec.DecodeAll(packed, nil)
}
