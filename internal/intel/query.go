package intel

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// entries is what the bundle says about a package.
func (b *Bundle) entries(ctx context.Context, key packageKey) ([]entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cached, ok := b.cache[key]; ok {
		return cached, nil
	}
	entries, err := b.query(ctx, key)
	if err != nil {
		return nil, err
	}
	// A package without entries counts too: the filter is wrong about some.
	if b.cached += len(entries) + 1; b.cached > maxCachedEntries {
		clear(b.cache)
		b.cached = len(entries) + 1
	}
	key.ecosystem, key.name = strings.Clone(key.ecosystem), strings.Clone(key.name) // they may be parts of more
	b.cache[key] = entries
	return entries, nil
}

func (b *Bundle) query(ctx context.Context, key packageKey) ([]entry, error) {
	rows, err := b.queries.affected.QueryContext(ctx, key.ecosystem, key.name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var entries []entry
	for rows.Next() {
		var e entry
		var versions sql.RawBytes
		if err := rows.Scan(&e.feed, &e.id, &versions); err != nil {
			return nil, err
		}
		if e.affected, err = decodeAffected(versions, b.rows); err != nil {
			return nil, err
		}
		if n := len(entries); n > 0 && entries[n-1].feed == e.feed {
			e.feed = entries[n-1].feed // one string for all rows of a feed
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// advisory reads what a finding shows of an advisory.
func (b *Bundle) advisory(ctx context.Context, feed, id string) (a vuln.Advisory, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := packageKey{feed, id}
	if a, ok := b.details[key]; ok {
		return a, nil
	}
	var detail []byte
	if err := b.queries.advisory.QueryRowContext(ctx, feed, id).Scan(&detail); err != nil {
		return a, err
	}
	if err := b.rows.unpack(detail, &a); err != nil {
		return a, err
	}
	remember(b.details, key, a)
	return a, nil
}

func remember[K comparable, V any](cache map[K]V, key K, value V) {
	if len(cache) >= maxCachedNames {
		clear(cache)
	}
	cache[key] = value
}

// about is what is known of a CVE beside its advisories.
type about struct {
	exploited         bool
	score, percentile float64
	ratings           []event.Rating // by feed
}

// enrich adds what is known by CVE: exploitation, its likelihood, every
// publisher's rating, and a severity when the advisories give none.
func (b *Bundle) enrich(ctx context.Context, f *event.Finding) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.enrichBy(ctx, f.ID, f); err != nil {
		return err
	}
	for _, id := range f.Aliases {
		if err := b.enrichBy(ctx, id, f); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) enrichBy(ctx context.Context, id string, f *event.Finding) error {
	if !strings.HasPrefix(id, "CVE-") {
		return nil
	}
	known, ok := b.aboutCVE[id]
	if !ok {
		var err error
		if known, err = b.lookUp(ctx, id); err != nil {
			return err
		}
		remember(b.aboutCVE, id, known)
	}
	f.KnownExploited = f.KnownExploited || known.exploited
	f.EPSS, f.Percentile = max(f.EPSS, known.score), max(f.Percentile, known.percentile)
	vuln.Rate(f, known.ratings)
	return nil
}

func (b *Bundle) lookUp(ctx context.Context, cve string) (a about, err error) {
	a.exploited = b.exploited[cve]
	err = b.queries.likelihood.QueryRowContext(ctx, cve).Scan(&a.score, &a.percentile)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return a, err
	}
	a.score, a.percentile = a.score/feed.EPSSUnit, a.percentile/feed.EPSSUnit
	rows, err := b.queries.rating.QueryContext(ctx, cve)
	if err != nil {
		return a, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var r event.Rating
		if err := rows.Scan(&r.Severity, &r.Source, &r.Vector); err != nil {
			return a, err
		}
		a.ratings = append(a.ratings, r)
	}
	return a, rows.Err()
}
