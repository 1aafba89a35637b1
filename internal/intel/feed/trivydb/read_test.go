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
		Advisory: func(string, vuln.Advisory) error { found++; return nil },
		Rating:   func(string, feed.Rating) error { return nil },
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

func show(ranges []vuln.Range, err error) string {
	if err != nil {
		return "error"
	}
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
	return strings.Join(out, "; ")
}

func TestRanges(t *testing.T) {
	for vulnerable, want := range map[string]string{
		">=1.0.0, <1.2.3": "1.0.0 <1.2.3", "<2": "0 <2", "<=2.1": "0 <=2.1", "=1.5": "1.5 <=1.5",
		">= 1.0 < 2.0 || = 3.1": "1.0 <2.0; 3.1 <=3.1", ">=4": "4",
		"~>1.0": "error", "<": "error", "< 1 2 >": "error",
	} {
		ranges, err := trivydb.Ranges([]string{vulnerable})
		if got := show(ranges, err); got != want {
			t.Errorf("%q: %s, want %s (%v)", vulnerable, got, want, err)
		}
	}
}

// TestOutside: what no constraint allows, by the rules of RubyGems.
func TestOutside(t *testing.T) {
	order, _ := vuln.OrderOf("RubyGems")
	for safe, want := range map[string]string{
		">=1.2.3": "0 <1.2.3", ">= 1.5.4;< 1.4.0": "1.4.0 <1.5.4",
		"~> 2.0.9, >= 2.0.9.1;~> 2.1.4, >= 2.1.4.1;>= 2.2.3.1;< 1.2": "1.2 <2.0.9.1; 2.1 <2.1.4.1; 2.2 <2.2.3.1",
		"~> 3.0": "0 <3.0; 4", "~> 3": "0 <3; 4", "< 3": "3", "> 3": "0 <=3", "= 2.0 || = 1.0": "0 <1.0; 1.0 <2.0; 2.0",
		">= 1;< 2": "", "~> 1.1, >= 1.0.5": "0 <1.1; 2", "": "", "^1.0": "error", ">=": "error",
	} {
		ranges, err := trivydb.Outside(order, strings.Split(safe, ";"))
		if got := show(ranges, err); got != want {
			t.Errorf("%q: %s, want %s (%v)", safe, got, want, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(database(f, 3))
	f.Fuzz(func(t *testing.T, data []byte) { _, _, _ = read(data) })
}

func FuzzRanges(f *testing.F) {
	f.Add(">=1.0.0, <1.2.3 || =2.0.0")
	f.Add("~> 2.0.9, >= 2.0.9.1 || >= 2.2.3.1 || < 1.2")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := trivydb.Ranges([]string{text})
		order, _ := vuln.OrderOf("RubyGems")
		outside, err2 := trivydb.Outside(order, []string{text})
		for _, r := range append(ranges, outside...) {
			if err == nil && err2 == nil && (len(r.Events) == 0 || r.Events[0].Introduced == "") {
				t.Errorf("%+v, %+v", ranges, outside)
			}
		}
	})
}
