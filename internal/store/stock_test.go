package store_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

func stockOf(t testing.TB, s *store.Store) []store.Stocked {
	t.Helper()
	n, err := s.StockSize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := make([]store.Stocked, n)
	var mu sync.Mutex
	if err := s.Stock(t.Context(), n, func(first int, some []store.Stocked) error {
		mu.Lock()
		defer mu.Unlock()
		copy(out[first:], some)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzStock: a package comes back from the stock as its report said, without
// where it lay.
func FuzzStock(f *testing.F) {
	f.Add("curl", "7.88.1-10", "Debian:12", "pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12", "amd64", "", "", false)
	f.Add("a\"b\\", "<1>\u2028\n\x00", "npm", "", "", "nodejs:18", "pkg:x/y@1", true)
	f.Add("\xff\xfe", "é\t", "", "\\u0026", "{}", "},{", ":", true)
	s := open(f, filepath.Join(f.TempDir(), "db"))
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, name, version, ecosystem, purl, arch, module, owner string, locked bool) {
		for _, text := range []string{name, version, ecosystem, purl, arch, module, owner} {
			if !utf8.ValidString(text) {
				return // JSON has no such thing
			}
		}
		want := event.Package{Name: name, Version: version, Ecosystem: ecosystem, PURL: purl, Arch: arch, Module: module, Owner: owner, Locked: locked}
		rep := storetest.Report(storetest.Digest("a"), time.Unix(1, 0))
		rep.Distro = report.Distro{ID: owner, Version: version, Codename: module}
		lies := want
		lies.Path, lies.Layer, lies.LayerIndex = "app/x", "sha256:1", 3
		rep.Packages = []event.Package{lies}
		if err := s.PutReport(t.Context(), rep); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stockOf(t, s), func(x store.Stocked) bool {
			return reflect.DeepEqual(x.Package, want) && x.Distro == rep.Distro
		}) {
			t.Errorf("%+v is not in the stock", want)
		}
		rep.Packages = nil
		if err := s.PutReport(t.Context(), rep); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PruneThings(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOneBatchIsLikeMany: reports of one batch about the same packages and images
// leave what they would have left one by one.
func TestOneBatchIsLikeMany(t *testing.T) {
	lib := event.Package{Name: "lib", Version: "1", Ecosystem: "npm", PURL: "pkg:npm/lib@1"}
	only := event.Package{Name: "only", Version: "1", Ecosystem: "npm", PURL: "pkg:npm/only@1"}
	say := func(digest string, matched bool, found []string, packages ...event.Package) report.Report {
		rep := storetest.Report(storetest.Digest(digest), time.Unix(1, 0))
		rep.Packages, rep.Findings, rep.Secrets, rep.Malware, rep.Intelligence = packages, nil, nil, nil, nil
		if matched {
			rep.Intelligence = &report.Intelligence{Version: "v1", Built: time.Unix(1, 0)}
		}
		for _, id := range found {
			rep.Findings = append(rep.Findings, event.Finding{ID: id, Severity: event.SeverityHigh, Package: lib, State: event.FixAffected})
		}
		return rep
	}
	reports := []report.Report{
		say("a", true, []string{"CVE-2026-1", "CVE-2026-2"}, lib, only),
		say("b", false, nil, lib),                    // says nothing about what is found
		say("c", true, []string{"CVE-2026-2"}, lib),  // and this one does
		say("a", true, []string{"CVE-2026-3"}, lib),  // the same image again, without one
		say("d", true, []string{"CVE-2026-3"}, only), // of a package that it does not hold
	}
	var records []api.Record
	for i, rep := range reports {
		records = append(records, storetest.Record(t, uint64(i+1), api.RecordReport, rep.Image.Digest, rep))
	}
	ask := func(batches ...[]api.Record) (answers []string) {
		s := open(t, filepath.Join(t.TempDir(), "db"))
		defer s.Close()
		for _, b := range batches {
			if _, err := s.Ingest(t.Context(), storetest.Batch("a1", b...)); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []store.Question{
			{Kind: store.ThingVulnerability, Name: "CVE-2026-1"}, {Kind: store.ThingVulnerability, Name: "CVE-2026-2"}, {Kind: store.ThingVulnerability, Name: "CVE-2026-3"},
			{Kind: store.ThingPackage, Name: "lib"}, {Kind: store.ThingPackage, Name: "only"},
		} {
			found, err := s.Where(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, held := range found.Items {
				text += held.Digest[7:8]
			}
			answers = append(answers, text)
		}
		return answers
	}
	var one [][]api.Record
	for _, r := range records {
		one = append(one, []api.Record{r})
	}
	want := ask(one...)
	silent := storetest.Record(t, uint64(len(reports)+1), api.RecordReport, "e", say("e", true, nil, lib)) // looked, and found nothing
	if got, want := ask(append(records[:1:1], silent)), ask(records[:1], []api.Record{silent}); !slices.Equal(got, want) || want[0] != "" {
		t.Errorf("in one batch\n%q\none by one\n%q", got, want)
	}
	if got := ask(records); !slices.Equal(got, want) {
		t.Errorf("in one batch\n%q\none by one\n%q", got, want)
	}
	if want[0] != "" || want[2] == "" || want[3] == "" {
		t.Errorf("one by one: %q", want)
	}
}
