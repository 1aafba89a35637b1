package store_test

import (
	"database/sql"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// TestImagesOfTheSixthSchema: an image whose report stood in its row, with its
// vulnerabilities held by itself, is the same image after the upgrade, and
// answers for what it holds.
func TestImagesOfTheSixthSchema(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "db"), t.Context()
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	rep := storetest.Report(storetest.Digest("a"), time.Unix(1000, 0))
	rep.Intelligence = &report.Intelligence{Version: "v1", Built: time.Unix(500, 0)}
	body, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		query string
		args  []any
	}{
		{query: "DROP TABLE reports"}, {query: "DROP TABLE inventories"}, {query: "DROP TABLE bundles"}, {query: "DROP TABLE affects"}, {query: "DROP TABLE spares"}, {query: "DROP TABLE promotions"}, {query: "DROP TABLE vex_documents"},
		{query: "DROP TABLE exceptions"}, {query: "DROP TABLE rule_hours"}, {query: "DROP TABLE stories"}, {query: "DROP INDEX incidents_story"}, {query: "ALTER TABLE incidents DROP COLUMN story"}, {query: "ALTER TABLE incidents DROP COLUMN rises"},
		{query: "DROP INDEX images_bundle"}, {query: "ALTER TABLE images DROP COLUMN bundle_id"},
		{query: "ALTER TABLE images ADD COLUMN report BLOB NOT NULL DEFAULT ''"}, {query: "ALTER TABLE images ADD COLUMN matched BIGINT NOT NULL DEFAULT 0"}, {query: "ALTER TABLE images ADD COLUMN bundle TEXT NOT NULL DEFAULT ''"},
		{query: "DELETE FROM schema_version WHERE version > 6"},
		{"INSERT INTO images (digest, name, refs, platform, scanned, worst, findings, fixable, packages, gaps, report, matched, bundle) VALUES ($1, 'shop/web:1', '[]', '', 1, 5, 1, 1, 1, 0, $2, $3, 'v1')",
			[]any{rep.Image.Digest, enc.EncodeAll(body, nil), time.Unix(500, 0).UnixNano()}},
		{"INSERT INTO image_numbers (number, digest) VALUES (1, $1)", []any{rep.Image.Digest}},
		{query: "INSERT INTO things (id, key, kind, body) VALUES (1, 'k', 'vulnerability', '{\"kind\":\"vulnerability\",\"name\":\"CVE-2023-45853\"}')"},
		{query: "INSERT INTO names (kind, name, thing) VALUES ('vulnerability', 'cve-2023-45853', 1)"}, {query: "INSERT INTO holds (thing, image) VALUES (1, 1)"},
	} {
		if _, err := db.ExecContext(ctx, q.query, q.args...); err != nil {
			t.Fatalf("%s: %v", q.query, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	img, got, err := s.Image(ctx, rep.Image.Digest)
	if err != nil || len(got.Findings) != 1 || img.Matched.Unix() != 500 {
		t.Fatalf("%+v %+v %v", img, got, err)
	}
	if n, err := s.IndexOld(ctx); err != nil || n != 1 {
		t.Errorf("%d images indexed: %v", n, err)
	}
	if page, next, err := s.Inventories(ctx, 0); err != nil || next != 0 || len(page) != 1 || len(page[0].Packages) != 1 || page[0].Bundle != "v1" {
		t.Errorf("%+v %d %v", page, next, err)
	}
	holds := func(want int) {
		t.Helper()
		if a, err := s.Where(ctx, store.Question{Kind: store.ThingVulnerability, Name: "CVE-2023-45853"}); err != nil || a.Images != want {
			t.Errorf("%+v %v", a, err)
		}
	}
	holds(1)
	if _, err := s.KeepJudged(ctx, []store.Judged{{Digest: rep.Image.Digest, Matched: true, Bundle: rep.Intelligence, Verdict: event.Verdict{Allowed: true}, Excluded: rep.Findings}}); err != nil {
		t.Fatal(err)
	}
	holds(0)
}
