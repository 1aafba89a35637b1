package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// Inventory is what judging an image again takes, without its report.
type Inventory struct {
	Digest string
	// Packages are the numbers of its packages (Stocked.ID), in the order of its
	// report; a package that lies in several places is there several times.
	Packages []int64
	// Bundle is the version of the one that its findings came from, "" for none.
	Bundle string
	// Known is how the image was judged last.
	Known Standing
	// Pipeline is the image's: whose word the inventory is.
	Pipeline string
	// Spares: some findings of its packages do not count in this image.
	Spares bool

	number      int64
	image       event.Image
	told        string
	scanned     int64
	verdict     []byte
	rest, refs  []byte
	packageText []byte
}

// Standing is what an image's findings come to.
type Standing struct {
	Worst    int // rank of the worst finding, -1 without any
	Findings int
	Fixable  int
	Gaps     int
}

// StandingOf sums up findings and gaps.
func StandingOf(findings []event.Finding, gaps int) Standing {
	worst, fixable := summary(findings)
	return Standing{worst, len(findings), fixable, gaps}
}

// Rest is the image's report without its packages, their findings and layers.
func (i *Inventory) Rest() (rep report.Report, err error) {
	if err = json.Unmarshal(i.rest, &rep); err == nil {
		rep.Image.References = nil // they may have changed since
		err = json.Unmarshal(i.refs, &rep.Image.References)
	}
	if err != nil {
		return rep, fmt.Errorf("inventory of %s: %w: %w", i.Digest, ErrCorrupt, err)
	}
	return rep, nil
}

// Looked says which kinds of content were looked for in an image, or ErrNotFound.
func (s *Store) Looked(ctx context.Context, digest string) ([]string, error) {
	return one(ctx, s, "what was looked for", func(row scanner) (looked []string, err error) {
		var rest []byte
		if err := row.Scan(&rest); err != nil {
			return nil, err
		}
		var rep struct{ Looked []string }
		err = json.Unmarshal(rest, &rep)
		return rep.Looked, err
	}, "SELECT v.rest FROM inventories v JOIN image_numbers n ON n.number = v.image WHERE n.digest = $1", digest)
}

// inventoryPage is how many inventories are in memory at a time, for each one
// who reads.
const inventoryPage = 128

// Inventories reads inventories, a page after the image numbered after, in the
// order of their numbers; next is 0 at the end. Images that came later have
// greater numbers.
func (s *Store) Inventories(ctx context.Context, after int64) (page []Inventory, next int64, err error) {
	page, err = list(ctx, s, "inventories", scanInventory, fmt.Sprintf(`
		SELECT v.image, i.digest, v.packages, v.rest, i.refs, i.platform, i.told, i.scanned, i.origin, i.verdict, i.worst, i.findings, i.fixable, i.gaps, COALESCE(b.version, ''),
			EXISTS (SELECT 1 FROM spares s WHERE s.image = v.image)
		FROM inventories v JOIN image_numbers n ON n.number = v.image JOIN images i ON i.digest = n.digest LEFT JOIN bundles b ON b.id = i.bundle_id
		WHERE v.image > $1 ORDER BY v.image LIMIT %d`, inventoryPage), after)
	if len(page) == inventoryPage {
		next = page[len(page)-1].number
	}
	return page, next, err
}

func scanInventory(row scanner) (i Inventory, err error) {
	err = row.Scan(&i.number, &i.Digest, &i.packageText, &i.rest, &i.refs, &i.image.Platform, &i.told, &i.scanned, &i.Pipeline, &i.verdict,
		&i.Known.Worst, &i.Known.Findings, &i.Known.Fixable, &i.Known.Gaps, &i.Bundle, &i.Spares)
	if err == nil {
		i.image.Digest = i.Digest
		i.Packages, err = unpackNumbers(i.packageText)
		i.packageText = nil
	}
	return i, err
}

// packNumbers writes each number as its distance from the one before.
func packNumbers(numbers []int64) []byte {
	out, before := make([]byte, 0, 2*len(numbers)), int64(0)
	for _, n := range numbers {
		out = binary.AppendVarint(out, n-before)
		before = n
	}
	return out
}

func unpackNumbers(data []byte) ([]int64, error) {
	out, before := make([]int64, 0, len(data)), int64(0)
	for len(data) > 0 {
		d, n := binary.Varint(data)
		if n <= 0 {
			return nil, fmt.Errorf("numbers of packages: %w", ErrCorrupt)
		}
		before += d
		out, data = append(out, before), data[n:]
	}
	return out, nil
}

// putInventory keeps what judging the image again takes.
func putInventory(ctx context.Context, tx *sql.Tx, image int64, packages []int64, rep report.Report) error {
	rep.Packages, rep.Findings, rep.Layers, rep.Advice, rep.Compared, rep.Intelligence, rep.Verdict, rep.Notes = nil, nil, nil, nil, nil, nil, nil, nil
	rest, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO inventories (image, packages, rest) VALUES ($1, $2, $3)
		ON CONFLICT (image) DO UPDATE SET packages = excluded.packages, rest = excluded.rest`, image, packNumbers(packages), rest)
	return err
}

// bundleNumber finds or makes the row of the bundle that a report was matched
// by; 0 for none.
func bundleNumber(ctx context.Context, tx *sql.Tx, used *report.Intelligence) (id int64, err error) {
	if used == nil {
		return 0, nil
	}
	err = tx.QueryRowContext(ctx, "SELECT id FROM bundles WHERE version = $1 ORDER BY id LIMIT 1", used.Version).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, "INSERT INTO bundles (version, built) VALUES ($1, $2) RETURNING id", used.Version, nanos(used.Built)).Scan(&id)
	}
	return id, err
}
