package intel_test

import (
	"fmt"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// inventory is what a sweep says of an image, in the order of its packages.
type inventory struct {
	prints []uint64
	found  []event.Finding
	gaps   []string
}

func sweep(t testing.TB, bundle *intel.Bundle, distro report.Distro, packages []event.Package) (out inventory) {
	t.Helper()
	owners := map[string]intel.Owner{}
	for i := range packages {
		if packages[i].Owner == "" {
			owners[packages[i].PURL] = intel.OwnerOf(distro, &packages[i])
		}
	}
	var list []intel.Judgeable
	for i := range packages {
		list = append(list, intel.JudgeableOf(distro, &packages[i], owners[packages[i].Owner]))
	}
	s := bundle.Sweep(false)
	var known []intel.Known
	err := s.Each(t.Context(), list, func(i int, r intel.Result) error {
		known = append(known, r.Known)
		out.prints = append(out.prints, r.Print)
		for _, f := range r.Findings {
			f.Package = packages[i]
			out.found = append(out.found, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out.gaps = s.Gaps(distro, known)
	return out
}

// TestSweepSaysWhatMatchSays: of every inventory, and a package's number changes
// when what is found of it does, and only then.
func TestSweepSaysWhatMatchSays(t *testing.T) {
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
		{npm("lodash", "no version"), npm("b", "neither"), {Name: "x", Version: "1", Ecosystem: "Riddle", PURL: "pkg:riddle/x@1"}},
	}
	judge := func() (numbers, found []string) {
		t.Helper()
		build(t, intel.Options{Data: data, Source: p.URL})
		bundle, err := intel.Open(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bundle.Close() }()
		for _, packages := range inventories {
			findings, _, gaps, err := bundle.Match(t.Context(), debian12, packages)
			if err != nil {
				t.Fatal(err)
			}
			got := sweep(t, bundle, debian12, packages)
			if fmt.Sprint(got.found) != fmt.Sprint(findings) || fmt.Sprint(got.gaps) != fmt.Sprint(gaps) {
				t.Errorf("of %+v a sweep says %+v, and Match %+v %q", packages, got, findings, gaps)
			}
			found = append(found, fmt.Sprint(findings))
			numbers = append(numbers, fmt.Sprint(got.prints))
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

// BenchmarkSweep judges 150,000 distinct packages with a bundle of 20,000
// advisories just opened.
func BenchmarkSweep(b *testing.B) {
	const distinct = 150_000
	p, data := newPublisher(b), b.TempDir()
	entries := map[string]string{}
	for i := range 20_000 {
		entries[fmt.Sprintf("X-%d.json", i)] = record(fmt.Sprintf("X-%d", i), fmt.Sprintf("pkg-%d", i/2))
	}
	p.set("/osv/npm/all.zip", string(zipped(b, entries)))
	if _, err := intel.Build(b.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"}); err != nil {
		b.Fatal(err)
	}
	list := make([]intel.Judgeable, distinct)
	for i := range list {
		pkg := npm(fmt.Sprintf("pkg-%d", i/2), fmt.Sprintf("1.%d.0", i%2))
		list[i] = intel.JudgeableOf(report.Distro{}, &pkg, intel.Owner{})
	}
	for b.Loop() {
		bundle, err := intel.Open(b.Context(), data)
		if err != nil {
			b.Fatal(err)
		}
		found := 0
		err = bundle.Sweep(false).Each(b.Context(), list, func(_ int, r intel.Result) error {
			found += len(r.Findings)
			return nil
		})
		_ = bundle.Close()
		if err != nil || found == 0 {
			b.Fatal(found, err)
		}
	}
}
