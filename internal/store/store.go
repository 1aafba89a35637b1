// Package store keeps what the server knows: agents, incidents, events,
// images, policies, users and the audit log, in one SQL database (SQLite; the
// SQL is hand-written and portable).
//
// A Store is safe for concurrent use. Writes go through one connection, one
// after the other, each in a transaction that is durable when the method
// returns (write-ahead log, synchronous=FULL: an acknowledged batch survives a
// power cut). Reads run beside them on a pool and see the last commit; they go
// on while the disk is full.
//
// Times are stored as nanoseconds since 1970 in UTC. Nothing is ordered by
// them, for clocks go back: order is the row number, given at arrival.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"modernc.org/sqlite"
)

// Store is one open database.
type Store struct {
	path  string
	write *sql.DB // one connection
	read  *sql.DB
	now   func() time.Time

	packer *zstd.Encoder // of reports
}

// Options of Open; the zero value is right for a server.
type Options struct {
	// BusyTimeout is how long a write waits for another process's lock before
	// it fails with ErrBusy; 0 means 5 s.
	BusyTimeout time.Duration
	Now         func() time.Time // nil means time.Now
}

// readers is the size of the read pool: SQLite readers do not block each
// other, and more of them than cores only cost memory.
const readers = 4

// writeCache bounds the pages that the writing connection keeps in memory, in
// bytes. A batch of reports touches pages all over the index of what images hold;
// what does not fit is written before the commit, and again at the next touch.
const writeCache = 64 << 20

// Open opens the database file at path, makes it when it is missing (mode
// 0600), and brings its schema up to date.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	packer, err := newPacker()
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	s := &Store{path: path, now: o.Now, packer: packer}
	if s.write, err = sql.Open("sqlite", dsn(path, o.BusyTimeout, "_txlock=immediate", "_pragma=temp_store(memory)", fmt.Sprintf("_pragma=cache_size(-%d)", writeCache>>10))); err != nil {
		return nil, s.wrap("open", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(path, o.BusyTimeout, "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(s.wrap("open", err), s.write.Close())
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends the store; methods running meanwhile fail.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// Path is the database file.
func (s *Store) Path() string { return s.path }

// touch makes the file before SQLite would, with a mode that keeps it from
// others: it holds password hashes.
func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string, busy time.Duration, more ...string) string {
	pragmas := []string{
		fmt.Sprintf("_pragma=busy_timeout(%d)", busy.Milliseconds()),
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
		"_pragma=journal_size_limit(67108864)",
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: strings.Join(append(pragmas, more...), "&")}
	return u.String()
}

// The errors of a database that cannot serve; test with errors.Is.
var (
	ErrBusy     = errors.New("database is locked by another process")
	ErrFull     = errors.New("no space left for the database")
	ErrCorrupt  = errors.New("database file is damaged")
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile")
	// ErrMalformed: the batch can never be stored.
	ErrMalformed = errors.New("malformed batch")
)

// SQLite's primary result codes, https://www.sqlite.org/rescode.html.
const (
	codeBusy    = 5
	codeLocked  = 6
	codeIO      = 10
	codeCorrupt = 11
	codeFull    = 13
	codeNotADB  = 26
)

// wrap names the store and what it was doing, and the way out where there is one.
func (s *Store) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var lite *sqlite.Error
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", op, ErrNotFound)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrConflict):
		return fmt.Errorf("%s: %w", op, err)
	case !errors.As(err, &lite):
		return fmt.Errorf("store %q: %s: %w", s.path, op, err)
	}
	switch lite.Code() & 0xff {
	case codeBusy, codeLocked:
		return fmt.Errorf("store %q: %s: %w: end the other process, or wait", s.path, op, ErrBusy)
	case codeFull:
		return fmt.Errorf("store %q: %s: %w: free space on its file system; nothing is lost, agents keep what was not stored", s.path, op, ErrFull)
	case codeCorrupt, codeNotADB:
		return fmt.Errorf("store %q: %s: %w (%v): put a backup in its place, or move the file away to start empty", s.path, op, ErrCorrupt, err)
	case codeIO:
		return fmt.Errorf("store %q: %s: the file system failed (%w)", s.path, op, err)
	}
	return fmt.Errorf("store %q: %s: %w", s.path, op, err)
}

// tx runs f in one write transaction: all of it is stored, or nothing.
func (s *Store) tx(ctx context.Context, op string, f func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap(op, err)
	}
	// After a failed statement or commit SQLite may hold the transaction open.
	// A failed rollback says nothing that the first error did not.
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return s.wrap(op, err)
	}
	return s.wrap(op, tx.Commit())
}

// exec runs one statement as a transaction of its own.
func (s *Store) exec(ctx context.Context, op, query string, args ...any) (int64, error) {
	res, err := s.write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, s.wrap(op, err)
	}
	n, err := res.RowsAffected()
	return n, s.wrap(op, err)
}

// scanner is a row, of one or of many.
type scanner interface{ Scan(dest ...any) error }

// list reads all rows of a query through scan.
func list[T any](ctx context.Context, s *Store, op string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.wrap(op, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, s.wrap(op, err)
		}
		out = append(out, v)
	}
	return out, s.wrap(op, rows.Err())
}

// one reads the only row of a query; no row is ErrNotFound.
func one[T any](ctx context.Context, s *Store, op string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(s.read.QueryRowContext(ctx, query, args...))
	return v, s.wrap(op, err)
}

// nanos and fromNanos carry times through the database; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
