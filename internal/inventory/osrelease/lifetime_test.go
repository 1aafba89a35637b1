package osrelease_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func TestLifetimeOfDistributions(t *testing.T) {
	l, err := osrelease.ReadLifetime(content.Distributions(), content.DistributionsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ id, version, want string }{
		{"debian", "11", "2026-08-31"}, {"debian", "12.4", "2028-06-30"}, {"ubuntu", "18.04", "2023-05-31"},
		{"ubuntu", "22.04", "2027-06-01"}, {"almalinux", "8.10", "2029-05-31"}, {"opensuse-leap", "16.0", "2027-10-31"},
		{"alpine", "3.18.5", "2025-05-09"}, {"rhel", "7.9", "2024-06-30"}, {"amzn", "2018.03", "2023-12-31"},
		{"sles", "15.5", "2024-12-31"}, {"ubuntu", "18", ""}, {"debian", "sid", ""}, {"debian", "", ""}, {"plan9", "4", ""},
	} {
		got := ""
		if end := l.End(c.id, c.version); !end.IsZero() {
			got = end.Format(time.DateOnly)
		}
		if got != c.want {
			t.Errorf("%s %s ends %q, want %q", c.id, c.version, got, c.want)
		}
	}
	for id, releases := range l {
		for version, end := range releases {
			if vuln.Distribution(id, version, "") == "" || end.Year() < 2015 || end.Year() > 2040 {
				t.Errorf("%s %s: an unknown release, or an end that no publisher promises (%s)", id, version, end)
			}
		}
	}
}

func TestLifetimeRefusesWhatItCannotRead(t *testing.T) {
	for name, text := range map[string]string{
		"no source":   `[{id: debian, releases: {"1": 2020-01-01}}]`,
		"a bad day":   `[{id: debian, source: "https://example.org", releases: {"1": soon}}]`,
		"twice":       `[{id: a, source: "https://example.org"}, {id: a, source: "https://example.org"}]`,
		"a new field": `[{id: a, source: "https://example.org", end: x}]`,
	} {
		if _, err := osrelease.ReadLifetime(fstest.MapFS{"d.yaml": {Data: []byte(text)}}, "d.yaml"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
