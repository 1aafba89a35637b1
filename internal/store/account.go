package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Actor is who changes something, for the audit log.
type Actor struct {
	Name    string // user or token, or the part of the program
	Address string // of the client; "" for the program itself
	Request string // request id
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	ID      uint64    `json:"id"`
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`
	Address string    `json:"address,omitempty"`
	Request string    `json:"request,omitempty"`
	Action  string    `json:"action"` // noun.verb
	Object  string    `json:"object,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

func (s *Store) audit(ctx context.Context, tx *sql.Tx, by Actor, action, object, detail string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO audit (time, actor, address, request, action, object, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		nanos(s.now()), by.Name, by.Address, by.Request, action, object, detail)
	return err
}

// Audit adds a line to the audit log for something that changes no other row.
func (s *Store) Audit(ctx context.Context, by Actor, action, object, detail string) error {
	return s.tx(ctx, "audit", func(tx *sql.Tx) error { return s.audit(ctx, tx, by, action, object, detail) })
}

// AuditLog lists the newest lines first. Object "" lists all.
func (s *Store) AuditLog(ctx context.Context, object string, n int) ([]AuditEntry, error) {
	return list(ctx, s, "list audit log", func(row scanner) (e AuditEntry, err error) {
		var at int64
		err = row.Scan(&e.ID, &at, &e.Actor, &e.Address, &e.Request, &e.Action, &e.Object, &e.Detail)
		e.Time = fromNanos(at)
		return e, err
	}, "SELECT id, time, actor, address, request, action, object, detail FROM audit WHERE $1 = '' OR object = $1 ORDER BY id DESC LIMIT $2", object, limit(n))
}

// User is a local account. Hash is the password's, in PHC form.
type User struct {
	Name, Hash, Role string
	Created, Changed time.Time
}

// Users lists all accounts by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	return list(ctx, s, "list users", scanUser, "SELECT name, hash, role, created, changed FROM users ORDER BY name")
}

// User returns one account, or ErrNotFound.
func (s *Store) User(ctx context.Context, name string) (User, error) {
	return one(ctx, s, fmt.Sprintf("user %q", name), scanUser, "SELECT name, hash, role, created, changed FROM users WHERE name = $1", name)
}

func scanUser(row scanner) (u User, err error) {
	var created, changed int64
	err = row.Scan(&u.Name, &u.Hash, &u.Role, &created, &changed)
	u.Created, u.Changed = fromNanos(created), fromNanos(changed)
	return u, err
}

// PutUser adds an account, or gives an existing one a new password hash and
// role and ends its sessions.
func (s *Store) PutUser(ctx context.Context, name, hash, role string, by Actor) error {
	return s.tx(ctx, fmt.Sprintf("user %q", name), func(tx *sql.Tx) error {
		now := nanos(s.now())
		_, err := tx.ExecContext(ctx, `INSERT INTO users (name, hash, role, created, changed) VALUES ($1, $2, $3, $4, $4)
			ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, role = excluded.role, changed = excluded.changed`, name, hash, role, now)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE "user" = $1`, name); err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "user.put", name, "role "+role)
	})
}

// Session is a login. Hash is the cookie value's; the value is kept nowhere.
type Session struct {
	Hash          []byte
	User, Role    string
	Created, Seen time.Time
	Address       string
}

// AddSession keeps a login and its audit line.
func (s *Store) AddSession(ctx context.Context, hash []byte, by Actor) error {
	return s.tx(ctx, "log in", func(tx *sql.Tx) error {
		now := nanos(s.now())
		if _, err := tx.ExecContext(ctx, `INSERT INTO sessions (hash, "user", created, seen, address) VALUES ($1, $2, $3, $3, $4)`, hash, by.Name, now, by.Address); err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "session.login", by.Name, "")
	})
}

// Session returns a login by its hash with the user's role, or ErrNotFound.
func (s *Store) Session(ctx context.Context, hash []byte) (Session, error) {
	return one(ctx, s, "session", func(row scanner) (x Session, err error) {
		var created, seen int64
		err = row.Scan(&x.Hash, &x.User, &x.Role, &created, &seen, &x.Address)
		x.Created, x.Seen = fromNanos(created), fromNanos(seen)
		return x, err
	}, `SELECT s.hash, s."user", u.role, s.created, s.seen, s.address FROM sessions s JOIN users u ON u.name = s."user" WHERE s.hash = $1`, hash)
}

// TouchSession notes that a login was used now.
func (s *Store) TouchSession(ctx context.Context, hash []byte) error {
	_, err := s.exec(ctx, "session", "UPDATE sessions SET seen = $1 WHERE hash = $2", nanos(s.now()), hash)
	return err
}

// EndSession forgets a login; an unknown one is no error.
func (s *Store) EndSession(ctx context.Context, hash []byte, by Actor) error {
	return s.tx(ctx, "log out", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE hash = $1", hash); err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "session.logout", by.Name, "")
	})
}

// PruneSessions forgets logins that began or were last used too long ago.
func (s *Store) PruneSessions(ctx context.Context, created, seen time.Time) error {
	_, err := s.exec(ctx, "prune sessions", "DELETE FROM sessions WHERE created < $1 OR seen < $2", nanos(created), nanos(seen))
	return err
}

// Token is an API token; its value is kept nowhere.
type Token struct {
	Name, Role       string
	Created, Expires time.Time
}

// PutToken keeps the hash of an API token, replacing the one of that name.
func (s *Store) PutToken(ctx context.Context, name string, hash []byte, role string, expires time.Time, by Actor) error {
	return s.tx(ctx, fmt.Sprintf("token %q", name), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tokens (hash, name, role, created, expires) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, role = excluded.role, created = excluded.created, expires = excluded.expires`,
			hash, name, role, nanos(s.now()), nanos(expires))
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "token.put", name, "role "+role)
	})
}

// Token returns an API token that has not expired by its hash, or ErrNotFound.
func (s *Store) Token(ctx context.Context, hash []byte) (Token, error) {
	return one(ctx, s, "token", func(row scanner) (t Token, err error) {
		var created, expires int64
		err = row.Scan(&t.Name, &t.Role, &created, &expires)
		t.Created, t.Expires = fromNanos(created), fromNanos(expires)
		return t, err
	}, "SELECT name, role, created, expires FROM tokens WHERE hash = $1 AND expires > $2", hash, nanos(s.now()))
}

// Cursor is the durable position of an output in the incidents, 0 at first.
func (s *Store) Cursor(ctx context.Context, name string) (position uint64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT position FROM cursors WHERE name = $1", name).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return position, s.wrap("cursor", err)
}

// SaveCursor moves an output's position.
func (s *Store) SaveCursor(ctx context.Context, name string, position uint64) error {
	_, err := s.exec(ctx, "cursor", "INSERT INTO cursors (name, position) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET position = excluded.position", name, int64(position))
	return err
}
