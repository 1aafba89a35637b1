package store_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestListsNeedNoSort: what pages ask for most is read from an index in the
// order it is shown, so its cost does not grow with the table.
func TestListsNeedNoSort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, where := range []string{
		"incidents", "incidents WHERE agent = 'a'", "incidents WHERE host = 'h'", "incidents WHERE policy = 'p'", "incidents WHERE detection = 'd'", "incidents WHERE image = 'i'",
		"incidents WHERE key = 'k'", "incidents WHERE outcome = 'o'", "incidents WHERE story = 9", "incidents WHERE control = 'c'", "incidents WHERE severity = 4", "incidents WHERE name = 'n'", "incidents WHERE received + 0 >= 5 AND id >= 7",
		"incidents WHERE id > 5 AND severity >= 3", "events WHERE agent = 'a' AND container = 'c'", "events WHERE container = 'c' AND kind = 'exec'", "events",
	} {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN SELECT id, received, body FROM "+where+" ORDER BY id DESC LIMIT 50")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(detail, "TEMP B-TREE") && !strings.Contains(where, "key") {
				t.Errorf("%s: %s", where, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
		_ = rows.Close() //nolint:sqlclosecheck // a defer would keep every plan open until the end
	}
}
