package intel

import (
	"reflect"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func rows() [][]vuln.Affected {
	long := vuln.Affected{Versions: []string{strings.Repeat("1.", 400)}}
	return [][]vuln.Affected{
		{{State: event.FixWontFix, Severity: event.SeverityLow, Module: "nodejs:18", Ranges: []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}, {Fixed: "1.2"}}}, {Events: []vuln.Point{{Introduced: "2"}, {LastAffected: "3"}, {Limit: "*"}}}}}},
		{{Versions: []string{"1", "2"}}, {Ranges: []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}}}}}},
		{long},
	}
}

func TestRowsComeBack(t *testing.T) {
	for _, list := range rows() {
		row, err := encodeAffected(list)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeAffected(row, newUnpacker()); err != nil || !reflect.DeepEqual(got, list) {
			t.Errorf("%+v came back as %+v, %v", list, got, err)
		}
	}
}

func FuzzDecodeAffected(f *testing.F) {
	for _, list := range rows() {
		row, err := encodeAffected(list)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		if len(row) > 1<<16 {
			return
		}
		_, _ = decodeAffected(row, newUnpacker())
	})
}

// TestFilterNeverDenies what was added, and seldom knows what was not.
func TestFilterNeverDenies(t *testing.T) {
	f := newFilter(1000)
	name := func(i int) string {
		return strings.Repeat("n", i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
	}
	for i := range 1000 {
		f.add(packageHash("npm", name(i)))
	}
	wrong := 0
	for i := range 1000 {
		if !f.has(packageHash("npm", name(i))) {
			t.Fatalf("%s was added", name(i))
		}
		if f.has(packageHash("Go", name(i))) {
			wrong++
		}
	}
	if wrong > 50 {
		t.Errorf("%d of 1000 are said to be known", wrong)
	}
}
