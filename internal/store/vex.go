package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// VEXDocument is one that an administrator added, without its text.
type VEXDocument struct {
	ID         int64     `json:"id"`
	Name       string    `json:"name"`
	Bytes      int64     `json:"bytes"`
	Statements int       `json:"statements"`
	Reason     string    `json:"reason"`
	Author     string    `json:"author"`
	Created    time.Time `json:"created"`
}

// VEXDocuments lists all, the newest first.
func (s *Store) VEXDocuments(ctx context.Context) ([]VEXDocument, error) {
	return list(ctx, s, "VEX documents", func(row scanner) (d VEXDocument, err error) {
		var created int64
		err = row.Scan(&d.ID, &d.Name, &d.Bytes, &d.Statements, &d.Reason, &d.Author, &created)
		d.Created = fromNanos(created)
		return d, err
	}, "SELECT id, name, length(document), statements, reason, author, created FROM vex_documents ORDER BY id DESC")
}

// VEX is what all documents say.
func (s *Store) VEX(ctx context.Context) ([]api.VEXDocument, error) {
	return list(ctx, s, "VEX documents", func(row scanner) (d api.VEXDocument, err error) {
		var text []byte
		err = row.Scan(&d.Name, &text)
		d.Document = text
		return d, err
	}, "SELECT name, document FROM vex_documents ORDER BY id")
}

// VEXVersion is another number whenever the documents are others.
func (s *Store) VEXVersion(ctx context.Context) (version string, err error) {
	return one(ctx, s, "VEX documents", func(row scanner) (v string, err error) {
		var newest, count, sum int64
		err = row.Scan(&newest, &count, &sum)
		return fmt.Sprint(newest, count, sum), err
	}, "SELECT COALESCE(MAX(id), 0), COUNT(*), COALESCE(SUM(id), 0) FROM vex_documents")
}

// PutVEX adds a document, in the place of one of its name, and starts a
// generation.
func (s *Store) PutVEX(ctx context.Context, d VEXDocument, text []byte, by Actor) error {
	return s.tx(ctx, "add VEX document", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM vex_documents WHERE name = $1", d.Name); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO vex_documents (name, document, statements, reason, author, created) VALUES ($1, $2, $3, $4, $5, $6)",
			d.Name, text, d.Statements, d.Reason, by.Name, nanos(s.now()))
		if err != nil {
			return err
		}
		if err := s.audit(ctx, tx, by, "vex.add", d.Name, d.Reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "VEX document added: "+d.Name)
	})
}

// DeleteVEX removes a document, and starts a generation; ErrNotFound when there
// is none.
func (s *Store) DeleteVEX(ctx context.Context, name, reason string, by Actor) error {
	return s.tx(ctx, "remove VEX document", func(tx *sql.Tx) error {
		var id int64
		if err := tx.QueryRowContext(ctx, "DELETE FROM vex_documents WHERE name = $1 RETURNING id", name).Scan(&id); err != nil {
			return err // no row is ErrNotFound
		}
		if err := s.audit(ctx, tx, by, "vex.remove", name, reason); err != nil {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, "VEX document removed: "+name)
	})
}
