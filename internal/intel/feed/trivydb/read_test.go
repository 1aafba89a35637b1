package trivydb_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/intel/feed/trivydb"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func database(t testing.TB, packages int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trivy.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		os, err := tx.CreateBucket([]byte("debian 12"))
		for i := range packages {
			if err != nil {
				return err
			}
			var pkg *bbolt.Bucket
			if pkg, err = os.CreateBucket([]byte(fmt.Sprintf("p%04d", i))); err == nil {
				err = pkg.Put([]byte("CVE-2024-1111"), []byte(`{"FixedVersion":"1.0-1","Status":3}`))
			}
		}
		return err
	})
	if err != nil || db.Close() != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(data []byte) (found, skipped int, err error) {
	err = trivydb.Read(bytes.NewReader(data), int64(len(data)), trivydb.Sinks{
		Advisory: func(vuln.Advisory) error { found++; return nil },
		Rating:   func(feed.Rating) error { return nil },
		Skip:     func(string, error) { skipped++ },
	})
	return found, skipped, err
}

func TestReadsEveryPage(t *testing.T) {
	if found, skipped, err := read(database(t, 5000)); found != 5000 || skipped != 0 || err != nil {
		t.Errorf("%d found, %d skipped, %v", found, skipped, err)
	}
}

// TestEveryFlippedByteIsSurvived: what points nowhere, or in a circle, is an
// error or reads less; it never hangs or crashes.
func TestEveryFlippedByteIsSurvived(t *testing.T) {
	data := database(t, 60)
	for i := range data {
		if i > 8192+64 && i%7 != 0 {
			continue // the meta pages all, the rest in samples
		}
		broken := bytes.Clone(data)
		broken[i] ^= 0xff
		if found, _, _ := read(broken); found > 10_000 {
			t.Fatalf("byte %d: %d found", i, found)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct{ vulnerable, patched, want string }{
		{">=1.0.0, <1.2.3", "", "1.0.0 <1.2.3"}, {"<2", "", "0 <2"}, {"<=2.1", "", "0 <=2.1"}, {"=1.5", "", "1.5 <=1.5"},
		{">= 1.0 < 2.0 || = 3.1", "", "1.0 <2.0; 3.1 <=3.1"}, {">=4", "", "4"}, {"", ">=1.2.3", "0 <1.2.3"},
		{"~>1.0", "", "error"}, {"<", "", "error"}, {"", ">=1.2, >=3 || >=4", "error"}, {"< 1 2 >", "", "error"},
	} {
		list := func(s string) []string {
			if s == "" {
				return nil
			}
			return []string{s}
		}
		ranges, err := trivydb.Ranges(list(c.vulnerable), list(c.patched), nil)
		var out []string
		for _, r := range ranges {
			text := r.Events[0].Introduced
			for _, p := range r.Events[1:] {
				if p.Fixed != "" {
					text += " <" + p.Fixed
				} else {
					text += " <=" + p.LastAffected
				}
			}
			out = append(out, text)
		}
		got := strings.Join(out, "; ")
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q %q: %s, want %s (%v)", c.vulnerable, c.patched, got, c.want, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(database(f, 3))
	f.Fuzz(func(t *testing.T, data []byte) { _, _, _ = read(data) })
}

func FuzzRanges(f *testing.F) {
	f.Add(">=1.0.0, <1.2.3 || =2.0.0")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := trivydb.Ranges([]string{text}, []string{text}, nil)
		for _, r := range ranges {
			if err == nil && (len(r.Events) == 0 || r.Events[0].Introduced == "") {
				t.Errorf("%+v", ranges)
			}
		}
	})
}
