package intel

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func FuzzUnpack(f *testing.F) {
	row, err := pack(vuln.Advisory{ID: "CVE-2024-1", Title: "A title", Source: "debian"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add(row[:len(row)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, row []byte) {
		u := newUnpacker()
		var first, second vuln.Advisory
		err := u.unpack(row, &first)
		if again := u.unpack(row, &second); (err == nil) != (again == nil) {
			t.Errorf("%v, then %v", err, again)
		}
	})
}
