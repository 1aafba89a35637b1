package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// Promotion is one that an administrator made.
type Promotion struct {
	ID int64 `json:"id"`
	api.Promotion
	Reason  string    `json:"reason"`
	Author  string    `json:"author"`
	Created time.Time `json:"created"`
}

// Promotions lists all, those that have ended too, the newest first.
func (s *Store) Promotions(ctx context.Context) ([]Promotion, error) {
	return list(ctx, s, "promotions", func(row scanner) (p Promotion, err error) {
		var ends, created int64
		err = row.Scan(&p.ID, &p.Kind, &p.Value, &p.Source, &p.Reason, &ends, &p.Author, &created)
		p.Ends, p.Created = fromNanos(ends), fromNanos(created)
		return p, err
	}, "SELECT id, kind, value, source, reason, ends, author, created FROM promotions ORDER BY id DESC")
}

// Promote enforces what intelligence brought, and starts a generation. A
// promotion of the same is replaced.
func (s *Store) Promote(ctx context.Context, p Promotion, by Actor) error {
	what := describePromotion(p.Promotion)
	return s.tx(ctx, "promote", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO promotions (kind, value, source, reason, ends, author, created) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (kind, value, source) DO UPDATE SET reason = excluded.reason, ends = excluded.ends, author = excluded.author, created = excluded.created`,
			p.Kind, p.Value, p.Source, p.Reason, nanos(p.Ends), by.Name, nanos(s.now()))
		if err != nil {
			return err
		}
		if err := s.audit(ctx, tx, by, "intelligence.promote", what, p.Reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "promoted: "+what)
	})
}

// Demote takes a promotion back, and starts a generation; ErrNotFound when there
// is none.
func (s *Store) Demote(ctx context.Context, id int64, reason string, by Actor) error {
	return s.tx(ctx, "demote", func(tx *sql.Tx) error {
		var p api.Promotion
		err := tx.QueryRowContext(ctx, "DELETE FROM promotions WHERE id = $1 RETURNING kind, value, source", id).Scan(&p.Kind, &p.Value, &p.Source)
		if err != nil {
			return err // no row is ErrNotFound
		}
		what := describePromotion(p)
		if err := s.audit(ctx, tx, by, "intelligence.demote", what, reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "demoted: "+what)
	})
}

func describePromotion(p api.Promotion) string {
	value, source := p.Value, ""
	if value == "" {
		value = "every one"
	}
	if p.Source != "" {
		source = " of " + p.Source
	}
	return fmt.Sprintf("%s %s%s", p.Kind, value, source)
}
