package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// where: what images hold is found by every name it has, and what no image
// holds any more is not.
func where(t *testing.T, s *store.Store) {
	ctx := t.Context()
	web, tool := Report(Digest("a"), time.Unix(100, 0)), Report(Digest("b"), time.Unix(100, 0))
	web.Packages[0].Source, web.Packages[0].SourceVersion = "zlib", "1:1.2.13"
	web.Findings[0].Package, web.Findings[0].Aliases = web.Packages[0], []string{"GHSA-mq29-j5xf-cjwr"}
	web.Secrets = []event.Secret{{Rule: "aws-access-key", Title: "AWS access key", Severity: event.SeverityHigh, Place: event.Place{Kind: event.PlaceFile, Path: "root/.aws", Deleted: true}}}
	tool.Packages[0].Version, tool.Packages[0].PURL = "1:1.3.1", "pkg:deb/debian/zlib1g@1.3.1"
	tool.Findings = nil
	tool.Malware = []event.Malware{{Name: "Eicar-Test-Signature", Engine: "clamav", Severity: event.SeverityCritical, Place: event.Place{Path: "x.zip"}}}
	ingest(t, s, Batch("a1", Record(t, 1, api.RecordReport, "r1", web), Record(t, 2, api.RecordReport, "r2", tool)))
	if err := s.AddAgent(ctx, store.Agent{ID: "a1", Host: "harbour-1", NKey: "UW"}, actor); err != nil {
		t.Fatal(err)
	}
	st := event.HostStatus{Host: "harbour-1"}
	for i := range 2 {
		st.Containers = append(st.Containers, event.Guarded{Container: event.Container{ID: fmt.Sprint("c", i), Name: fmt.Sprint("web-", i), Image: event.Image{Digest: Digest("a")}}, Mode: "enforce"})
	}
	if err := s.PutStatus(ctx, "a1", st); err != nil {
		t.Fatal(err)
	}
	const both, first, second = "ab", "a", "b"
	for want, questions := range map[string][]store.Question{
		both: {{Kind: store.ThingPackage, Name: "ZLIB1G"}, {Kind: store.ThingPackage, Name: "zlib1g", Ecosystem: "debian"}, {Kind: store.ThingPackage, Name: "zlib1g", Ecosystem: "Debian:12", Versions: ">=1.2"}},
		first: {{Kind: store.ThingVulnerability, Name: "cve-2023-45853"}, {Kind: store.ThingVulnerability, Name: "GHSA-mq29-j5xf-cjwr"}, {Kind: store.ThingPackage, Name: "zlib"},
			{Kind: store.ThingPackage, Name: "zlib1g", Versions: "<1:1.3"}, {Kind: store.ThingPackage, Name: "zlib1g", Versions: "1.2.13"}, {Kind: store.ThingPackage, Name: "zlib1g", Running: true},
			{Kind: store.ThingSecret}, {Kind: store.ThingSecret, Name: "aws-access-key"}, {Kind: store.ThingPackage, Name: "zlib1g", Limit: 1}},
		second: {{Kind: store.ThingMalware, Name: "eicar-test-signature"}, {Kind: store.ThingPackage, Name: "zlib1g", Versions: ">1:1.3, <=1:1.3.1"}, {Kind: store.ThingPackage, Name: "zlib1g", Offset: 1}},
		"":     {{Kind: store.ThingPackage, Name: "zlib1"}, {Kind: store.ThingPackage, Name: "zlib1g", Ecosystem: "Debian:1"}, {Kind: store.ThingVulnerability, Name: "zlib1g"}, {Kind: store.ThingSecret, Name: "x' OR 1=1"}},
	} {
		for _, q := range questions {
			a, err := s.Where(ctx, q)
			got := ""
			for _, i := range a.Items {
				got += i.Digest[7:8]
				if len(i.Things) == 0 {
					t.Errorf("%+v: %s is there and holds nothing", q, i.Digest)
				}
			}
			if err != nil || got != want {
				t.Errorf("%+v: %q, want %q (%v)", q, got, want, err)
			}
		}
	}
	a, err := s.Where(ctx, store.Question{Kind: store.ThingVulnerability, Name: "CVE-2023-45853"})
	if err != nil || a.Images != 1 || a.Running != 1 || a.Containers != 2 || a.Hosts != 1 || len(a.Items[0].Running) != 2 || a.Items[0].Running[0].Host != "harbour-1" {
		t.Errorf("%+v %v", a, err)
	}
	for _, q := range []store.Question{{Kind: store.ThingPackage}, {Kind: store.ThingPackage, Name: "x", Versions: "<"}} {
		if _, err := s.Where(ctx, q); !errors.Is(err, store.ErrQuestion) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	web.Findings = nil // it was mended
	ingest(t, s, Batch("a1", Record(t, 3, api.RecordReport, "r3", web)))
	if a, err := s.Where(ctx, store.Question{Kind: store.ThingVulnerability, Name: "CVE-2023-45853"}); err != nil || a.Images != 0 {
		t.Errorf("after the fix: %+v %v", a, err)
	}
}
