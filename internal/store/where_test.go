package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// fleet fills a store with images that share their packages as real ones do: a
// base that every one has, and what only some have.
func fleet(b *testing.B, s *store.Store, images, findings int) {
	b.Helper()
	var records []api.Record
	for i := range images {
		rep := report.Report{Schema: report.SchemaVersion, Time: time.Unix(int64(i), 0), Image: event.Image{Digest: fmt.Sprintf("sha256:%064x", i+1), References: []string{fmt.Sprintf("shop/app-%d:1", i)}}}
		for f := range findings {
			n := f
			if f > findings/2 { // half of it comes with the base
				n = f + i%100*findings
			}
			p := event.Package{Name: fmt.Sprintf("package-%d", n), Version: "1.2.3-4", Ecosystem: "Debian:12", PURL: fmt.Sprintf("pkg:deb/debian/package-%d@1.2.3-4", n)}
			rep.Packages = append(rep.Packages, p)
			rep.Findings = append(rep.Findings, event.Finding{ID: fmt.Sprintf("CVE-2026-%d", n), Severity: event.SeverityHigh, Package: p, State: event.FixAffected})
		}
		records = append(records, storetest.Record(b, uint64(i+1), api.RecordReport, fmt.Sprint(i), rep))
		if len(records) == 100 || i == images-1 {
			if _, err := s.Ingest(b.Context(), storetest.Batch("a1", records...)); err != nil {
				b.Fatal(err)
			}
			records = nil
		}
	}
}

// BenchmarkWhere asks for a vulnerability that every image has, among
// BENCH_IMAGES (1000) images of 200 findings each.
func BenchmarkWhere(b *testing.B) {
	images := 1000
	if n, err := strconv.Atoi(os.Getenv("BENCH_IMAGES")); err == nil {
		images = n
	}
	s := open(b, filepath.Join(b.TempDir(), "db"))
	defer s.Close()
	fleet(b, s, images, 200)
	for name, q := range map[string]store.Question{
		"everywhere": {Kind: store.ThingVulnerability, Name: "CVE-2026-7"}, "rare": {Kind: store.ThingVulnerability, Name: "CVE-2026-1190"},
		"package": {Kind: store.ThingPackage, Name: "package-7", Versions: "<2"}, "running": {Kind: store.ThingVulnerability, Name: "CVE-2026-7", Running: true},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Where(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
