package intel_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// TestPrintsChangeWithFindings: an inventory's number changes when what Match
// finds in it does, and only then.
func TestPrintsChangeWithFindings(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	deb := func(name, version string) event.Package {
		return event.Package{Name: name, Version: version, Ecosystem: "Debian:12", PURL: "pkg:deb/debian/" + name + "@" + version}
	}
	curl := deb("curl", "7.88.1-10")
	owned, foreign := npm("lodash", "4.17.15"), npm("lodash", "4.17.15")
	owned.Owner, foreign.Owner = curl.PURL, "pkg:deb/debian/no-such@1"
	inventories := [][]event.Package{
		{npm("a", "1.0.0"), deb("curl", "7.88.1-10")},
		{npm("b", "1.0.0")},
		{owned, curl, npm("c", "1.0.0")},
		{foreign, curl},
		{npm("lodash", "4.17.15")},
	}
	judge := func() (numbers []uint64, found []string) {
		t.Helper()
		build(t, intel.Options{Data: data, Source: p.URL})
		bundle, err := intel.Open(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bundle.Close() }()
		var c intel.Catalogue
		var lists [][]uint32
		for _, packages := range inventories {
			lists = append(lists, c.Add(debian12, packages))
			findings, _, _, err := bundle.Match(t.Context(), debian12, packages)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, fmt.Sprint(findings))
		}
		prints, err := bundle.Prints(t.Context(), &c, false)
		if err != nil {
			t.Fatal(err)
		}
		var again intel.Catalogue // as a store would give it back
		for _, j := range c.List() {
			again.Append(j)
		}
		for i, list := range lists {
			numbers = append(numbers, prints.Of(list))
			if fmt.Sprint(again.Add(debian12, inventories[i])) != fmt.Sprint(list) {
				t.Errorf("inventory %d has other numbers in a stored catalogue", i)
			}
		}
		return numbers, found
	}
	before, foundBefore := judge()
	if again, _ := judge(); fmt.Sprint(again) != fmt.Sprint(before) {
		t.Error("the same intelligence gives other numbers")
	}
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "b"), "X-2.json": record("X-2", "lodash")})))
	after, foundAfter := judge()
	changed := 0
	for i := range inventories {
		differs := foundBefore[i] != foundAfter[i]
		if differs {
			changed++
		}
		if (before[i] != after[i]) != differs {
			t.Errorf("inventory %d: findings differ: %v, numbers differ: %v", i, differs, before[i] != after[i])
		}
	}
	if changed != 3 {
		t.Errorf("%d inventories changed, want those of b and of both lodash that Debian does not know", changed)
	}
}

// BenchmarkPrints judges 100,000 inventories of 300 packages, of which there
// are 150,000 distinct ones, with a bundle of 20,000 advisories just opened.
func BenchmarkPrints(b *testing.B) {
	const inventories, size, distinct = 100_000, 300, 150_000
	p, data := newPublisher(b), b.TempDir()
	entries := map[string]string{}
	for i := range 20_000 {
		entries[fmt.Sprintf("X-%d.json", i)] = record(fmt.Sprintf("X-%d", i), fmt.Sprintf("pkg-%d", i/2))
	}
	p.set("/osv/npm/all.zip", string(zipped(b, entries)))
	if _, err := intel.Build(b.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"}); err != nil {
		b.Fatal(err)
	}
	var c intel.Catalogue
	for i := range distinct {
		pkg := npm(fmt.Sprintf("pkg-%d", i/2), fmt.Sprintf("1.%d.0", i%2))
		c.Append(intel.JudgeableOf(report.Distro{}, &pkg, nil))
	}
	random := rand.New(rand.NewPCG(1, 2))
	lists := make([][]uint32, inventories)
	for i := range lists {
		lists[i] = make([]uint32, size)
		for j := range lists[i] {
			lists[i][j] = random.Uint32N(distinct)
		}
	}
	for b.Loop() {
		bundle, err := intel.Open(b.Context(), data)
		if err != nil {
			b.Fatal(err)
		}
		prints, err := bundle.Prints(b.Context(), &c, false)
		if err != nil {
			b.Fatal(err)
		}
		sum := uint64(0)
		for _, l := range lists {
			sum += prints.Of(l)
		}
		_ = bundle.Close()
		if sum == 0 {
			b.Fatal("no findings")
		}
	}
}
