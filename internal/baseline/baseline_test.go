package baseline_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/baseline"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func sample() *report.Report {
	return &report.Report{
		Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Findings: []event.Finding{
			{ID: "CVE-1", Package: event.Package{Name: "libc6", Version: "2.36-9", Ecosystem: "Debian:12", Path: "var/lib/dpkg/status"}},
			{ID: "CVE-2", Package: event.Package{Name: "lodash", Version: "4.17.15", Ecosystem: "npm", Path: "app/package.json"}},
		},
		Secrets:           []event.Secret{{Rule: "aws", Place: event.Place{Kind: event.PlaceFile, Path: "a"}}},
		Misconfigurations: []event.Misconfiguration{{ID: "root", Place: event.Place{Kind: event.PlaceHistory, Path: "2"}}},
		Malware:           []event.Malware{{Name: "Eicar"}},
	}
}

func written(t *testing.T) *baseline.Baseline {
	t.Helper()
	var out bytes.Buffer
	if err := baseline.Write(&out, sample(), time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), "known"); err != nil {
		t.Fatal(err)
	}
	b, err := baseline.Parse(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNewFails: what a baseline was written of is accepted, other versions of
// the same package too; what is new is not, and malware never is.
func TestNewFails(t *testing.T) {
	b, r := written(t), sample()
	r.Findings[0].Package.Version = "2.36-10"
	moved := r.Findings[1]
	moved.Package.Path = "other/package.json"
	r.Findings = append(r.Findings, moved, event.Finding{ID: "CVE-3", Package: r.Findings[0].Package})
	facts := b.Facts(r.Time, r.Facts())
	if len(facts.Findings) != 2 || len(facts.Secrets) != 0 || len(facts.Misconfigurations) != 0 || len(facts.Malware) != 1 {
		t.Errorf("judged: %+v", facts)
	}
	b.Apply(r)
	if len(r.Findings) != 2 || r.Findings[1].ID != "CVE-3" || len(r.Secrets)+len(r.Misconfigurations) != 0 || len(r.Malware) != 1 || len(r.Accepted) != 4 {
		t.Errorf("left: %+v", r)
	}
	if a := r.Accepted[0]; a.Reason != "known" || a.Until.Format(time.DateOnly) != "2027-01-31" || a.Finding.ID != "CVE-1" {
		t.Errorf("accepted: %+v", a)
	}
}

// TestEnds: the last day still counts, in UTC, and no moment after it.
func TestEnds(t *testing.T) {
	b := written(t)
	for at, want := range map[string]int{"2027-01-31T23:59:59Z": 4, "2027-02-01T00:00:00Z": 0} {
		r := sample()
		r.Time, _ = time.Parse(time.RFC3339, at)
		b.Apply(r)
		if len(r.Accepted) != want || b.Ended(r.Time) != 4-want {
			t.Errorf("%s: %d accepted, %d ended", at, len(r.Accepted), b.Ended(r.Time))
		}
	}
}

// TestWriteAgain keeps the days and reasons of what is accepted already.
func TestWriteAgain(t *testing.T) {
	r := sample()
	written(t).Apply(r)
	r.Findings = append(r.Findings, event.Finding{ID: "CVE-9", Package: event.Package{Name: "a", Ecosystem: "npm"}})
	var out bytes.Buffer
	if err := baseline.Write(&out, r, time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC), "new"); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "2027-01-31") != 4 || strings.Count(out.String(), "2028-01-01") != 1 {
		t.Errorf("got %s", out.String())
	}
}

func TestErrors(t *testing.T) {
	const head = `{"version":"breakwater-baseline/v1","entries":[`
	for in, want := range map[string]string{
		"":                "is no baseline",
		`{"version":"2"}`: `its version is "2"`,
		head + `{}]}`:     "entry 1: has not exactly one of",
		head + `{"vulnerability":"a","secret":"b"}]}`:                      "exactly one of",
		head + `{"vulnerability":"a"}]}`:                                   "names no package",
		head + `{"secret":"a","until":"soon"}]}`:                           `until "soon" is not a date`,
		head + `{"secret":"a","ending":"2027-01-01"}]}`:                    `unknown field "ending"`,
		head + `{"secret":"a","until":"2027-01-01"}]} {"version":"again"}`: "something follows",
	} {
		if _, err := baseline.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":"breakwater-baseline/v1","entries":[{"secret":"a","path":"file:x","until":"2027-01-01"}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if b, err := baseline.Parse(data); err == nil {
			b.Apply(sample())
		}
	})
}
