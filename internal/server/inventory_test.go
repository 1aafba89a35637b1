package server_test

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// The kinds of policies that judge inventories in ways of their own: by
// severity alone, by findings, by what is written about them, by packages, by where packages lie.
var judgingPolicies = map[string]string{
	"severity": `image:
  maxSeverity: {level: medium}
exceptions:
  - {match: finding.id == "CVE-2026-1002", reason: not reachable, expires: 2036-01-01}
  - {match: finding.package.name == "lodash" && image.repository == "shop/web", reason: not reachable, expires: 2036-01-01}
`,
	"findings": "image:\n  rules:\n    - {id: r, deny: \"findings.exists(f, f.package.name == 'lodash')\", message: lodash}\n",
	"texts":    "image:\n  rules:\n    - {id: r, deny: \"findings.exists(f, f.package.name == 'lodash' && f.url.contains('osv.dev'))\", message: lodash}\n",
	"packages": "image:\n  rules:\n    - {id: r, deny: \"packages.exists(p, p.name == 'lodash') && findings.size() > 1\", message: lodash}\n",
	"places":   "image:\n  rules:\n    - {id: r, deny: \"findings.exists(f, f.package.path.startsWith('app/'))\", message: in app}\n",
}

// TestInventoriesAndReportsAgree: what new intelligence makes of an image by
// its inventory is what its whole report says.
func TestInventoriesAndReportsAgree(t *testing.T) {
	for name, text := range judgingPolicies {
		t.Run(name, func(t *testing.T) {
			source := "apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\nmode: enforce\n" + text
			data, p := t.TempDir(), &publisher{}
			upstream := httptest.NewServer(p)
			defer upstream.Close()
			p.build(t, data, upstream.URL, "left-pad")
			m, err := intel.Verify(data)
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, t.TempDir(), func(o *server.Options) { o.Intelligence, o.Policies = data, []byte(source) })
			var records []api.Record
			reports := variedReports()
			for i, r := range reports {
				if i%3 != 2 { // the others were read where there was no intelligence
					r.Intelligence = m.Intelligence()
				}
				records = append(records, storetest.Record(t, uint64(i+1), api.RecordReport, fmt.Sprint(i), r))
			}
			if err := s.Ingest(t.Context(), storetest.Batch("a1", records...)); err != nil {
				t.Fatal(err)
			}
			p.build(t, data, upstream.URL, "left-pad", "lodash", "express", "body-parser")
			newest, err := intel.Verify(data)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, func() (struct{}, error) {
				v, err := s.Store().MatchedBy(t.Context())
				if err == nil && v != newest.Version {
					err = fmt.Errorf("judged by %s", v)
				}
				return struct{}{}, err
			})
			generation, err := s.Store().Generation(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := policy.Parse("p", []byte(source))
			if err != nil {
				t.Fatal(err)
			}
			set, err := policy.NewSet(generation, parsed)
			if err != nil {
				t.Fatal(err)
			}
			refused := 0
			for _, r := range reports {
				img, rep, err := s.Image(t.Context(), r.Image.Digest)
				if err != nil {
					t.Fatal(err)
				}
				if want := set.Image(time.Now(), rep.Facts()); !reflect.DeepEqual(*img.Verdict, want) {
					t.Errorf("%s\n%+v\nwant\n%+v", img.Name, *img.Verdict, want)
				}
				standing := store.StandingOf(rep.Findings, len(rep.Gaps))
				if img.Findings != standing.Findings || img.Fixable != standing.Fixable || img.Gaps != standing.Gaps || img.Matched.IsZero() || rep.Intelligence.Version != newest.Version {
					t.Errorf("%s: %+v, its report %+v", img.Name, img, standing)
				}
				if !img.Verdict.Allowed {
					refused++
				}
			}
			if refused == 0 || refused == len(reports) {
				t.Errorf("%d of %d are refused: the test tells nothing", refused, len(reports))
			}
			where, err := s.Store().Where(t.Context(), store.Question{Kind: store.ThingVulnerability, Name: "CVE-2026-1001"})
			if err != nil || where.Images != 4 {
				t.Errorf("lodash's vulnerability is in %d images (%v), want all that hold it but the one that excludes it", where.Images, err)
			}
		})
	}
}

func variedReports() []report.Report {
	debian := report.Distro{ID: "debian", Version: "12", Codename: "bookworm", EndOfLife: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	all := []report.Report{
		npmReport(storetest.Digest("1"), "lodash"), npmReport(storetest.Digest("2"), "express", "other"), npmReport(storetest.Digest("3"), "lodash", "express"),
		npmReport(storetest.Digest("4"), "nothing"), npmReport(storetest.Digest("5"), "lodash", "body-parser"), npmReport(storetest.Digest("6"), "lodash"), npmReport(storetest.Digest("7"), "lodash"),
	}
	for i := range all {
		all[i].Image.References = []string{fmt.Sprintf("shop/app-%d:1", i)}
	}
	all[0].Image.References = []string{"shop/web:1"}
	twice := all[4].Packages[0]
	twice.Path = "srv/node_modules/lodash"
	all[4].Packages = append(all[4].Packages, twice, event.Package{Name: "bash", Version: "5.2", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/bash@5.2"})
	all[4].Distro = debian
	all[2].Packages = append(all[2].Packages, event.Package{Name: "express", Version: "not a version!", Ecosystem: "npm", PURL: "pkg:npm/express@x", Path: "x"})
	all[2].Gaps = []string{"something could not be read."}
	all[5].Excluded = []event.Finding{{ID: "CVE-2026-1001", Package: all[5].Packages[0], VEX: &event.Statement{Status: "not_affected", Document: "ours"}}}
	all[6].Packages[0].Owner = "pkg:deb/debian/node-lodash@1"
	all[6].Packages = append(all[6].Packages, event.Package{Name: "node-lodash", Version: "1", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/node-lodash@1"})
	all[6].Distro = debian
	return all
}
