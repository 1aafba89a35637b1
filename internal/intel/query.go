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

// enrich adds what is known by CVE: exploitation and its likelihood, every
// publisher's rating, and a severity when the advisories give none.
func (b *Bundle) enrich(ctx context.Context, f *event.Finding) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range append([]string{f.ID}, f.Aliases...) {
		f.KnownExploited = f.KnownExploited || b.exploited[id]
		if !strings.HasPrefix(id, "CVE-") {
			continue
		}
		if err := b.likelihood(ctx, id, f); err != nil {
			return err
		}
		if f.Severity != event.SeverityUnknown {
			continue
		}
		ratings, err := b.rated(ctx, id)
		if err != nil {
			return err
		}
		if len(ratings) > 0 {
			f.Severity, f.SeveritySource = ratings[0].Severity, ratings[0].Source
			if f.CVSS == "" {
				f.CVSS = ratings[0].Vector
			}
		}
	}
	return nil
}

// likelihood sets the highest EPSS figures of a finding's CVEs.
func (b *Bundle) likelihood(ctx context.Context, cve string, f *event.Finding) error {
	var score, percentile float64
	err := b.queries.likelihood.QueryRowContext(ctx, cve).Scan(&score, &percentile)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	f.EPSS, f.Percentile = max(f.EPSS, score/feed.EPSSUnit), max(f.Percentile, percentile/feed.EPSSUnit)
	return err
}

// rated is what publishers say of a CVE's severity, by feed.
func (b *Bundle) rated(ctx context.Context, cve string) ([]event.Rating, error) {
	if r, ok := b.ratings[cve]; ok {
		return r, nil
	}
	rows, err := b.queries.rating.QueryContext(ctx, cve)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var list []event.Rating
	for rows.Next() {
		var r event.Rating
		if err := rows.Scan(&r.Severity, &r.Source, &r.Vector); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	remember(b.ratings, cve, list)
	return list, nil
}
