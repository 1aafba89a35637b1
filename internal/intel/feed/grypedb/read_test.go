package grypedb_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/intel/feed/grypedb"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func database(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vulnerability.db")
	db, err := sql.Open("sqlite", path+"?_pragma=page_size(1024)")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		`CREATE TABLE blobs (id INTEGER PRIMARY KEY, value TEXT NOT NULL)`,
		`CREATE TABLE db_metadata (build_timestamp datetime, model integer)`, `INSERT INTO db_metadata VALUES ('2026-11-21 01:02:03+00:00', 6)`,
		`CREATE TABLE vulnerability_handles (id INTEGER PRIMARY KEY, name TEXT, status TEXT, provider_id TEXT, blob_id INTEGER)`,
		`CREATE TABLE operating_systems (id INTEGER PRIMARY KEY, name TEXT, release_id TEXT, major_version TEXT, minor_version TEXT, label_version TEXT, codename TEXT)`,
		`CREATE TABLE packages (id INTEGER PRIMARY KEY, ecosystem TEXT, name TEXT)`,
		`CREATE TABLE affected_package_handles (id INTEGER PRIMARY KEY, vulnerability_id INTEGER, operating_system_id INTEGER, package_id INTEGER, blob_id INTEGER)`,
		`INSERT INTO packages VALUES (1, 'npm', 'x')`, `INSERT INTO vulnerability_handles VALUES (1, 'GHSA-1', 'active', 'github', NULL)`,
		`INSERT INTO blobs VALUES (1, '{"ranges":[{"version":{"constraint":"<1.2.3"},"fix":{"version":"1.2.3","state":"fixed"}}]}')`,
		`INSERT INTO affected_package_handles VALUES (1, 1, NULL, 1, 1)`,
	} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(t *testing.T, data []byte) (found int, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vulnerability.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = grypedb.Read(t.Context(), path, grypedb.Sinks{
		Advisory:   func(string, vuln.Advisory) error { found++; return nil },
		Rating:     func(string, feed.Rating) error { return nil },
		Exploited:  func(feed.Exploited) error { return nil },
		Likelihood: func(feed.Exploitability) error { return nil },
		Skip:       func(string, error) {},
	})
	return found, err
}

// TestOlderDatabase: without the columns and tables of later revisions.
func TestOlderDatabase(t *testing.T) {
	if found, err := read(t, database(t)); found != 1 || err != nil {
		t.Errorf("%d, %v", found, err)
	}
}

func TestDamageIsSurvived(t *testing.T) {
	data := database(t)
	for i := 0; i < len(data); i += 61 {
		broken := append([]byte(nil), data...)
		broken[i] ^= 0xff
		if found, _ := read(t, broken); found > 1000 {
			t.Fatalf("byte %d: %d found", i, found)
		}
	}
	for _, size := range []int{0, 100, 1024, len(data) / 2} {
		if _, err := read(t, data[:size]); err == nil {
			t.Errorf("%d bytes of it are accepted", size)
		}
	}
}
