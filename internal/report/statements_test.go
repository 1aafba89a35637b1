package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func vexOf(name, product string) api.VEXDocument {
	return api.VEXDocument{Name: name, Document: json.RawMessage(`{"@context":"https://openvex.dev/ns/v0.2.0","author":"us","timestamp":"2026-01-01T00:00:00Z","statements":[
		{"vulnerability":{"name":"CVE-2026-1"},"products":[{"@id":"` + product + `"}],"status":"not_affected","impact_statement":"never called"}]}`)}
}

// TestStatements: they count for the image that they name, never by a digest that
// nobody compared; the report itself stays as it is; a document that cannot be
// read says nothing and keeps the others from nothing.
func TestStatements(t *testing.T) {
	const pinned = "registry.example/shop@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	read := func(documents ...api.VEXDocument) *report.Statements {
		t.Helper()
		s, err := report.ReadStatements(documents)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	rep := report.Report{Integrity: report.Hashed, Image: event.Image{References: []string{pinned}}, Findings: []event.Finding{
		{ID: "GHSA-1", Aliases: []string{"CVE-2026-1"}, Package: event.Package{Name: "lodash", PURL: "pkg:npm/lodash@1.0.0"}}, {ID: "CVE-2026-2"}}}
	claimed, proved := rep, rep
	claimed.Integrity, proved.Integrity = "", ""
	proved.Image.Pinned = []string{"sha256:1111111111111111111111111111111111111111111111111111111111111111"}
	for name, c := range map[string]struct {
		said    *report.Statements
		rep     report.Report
		mention bool
		left    int
	}{
		"none":                              {nil, rep, false, 2},
		"no documents":                      {read(), rep, false, 2},
		"the image by digest":               {read(vexOf("a", pinned)), rep, true, 1},
		"a digest that only the image says": {read(vexOf("a", pinned)), claimed, true, 2},
		"a digest that was compared":        {read(vexOf("a", pinned)), proved, true, 1},
		"another image":                     {read(vexOf("a", "registry.example/other:1")), rep, true, 2},
		"a package anywhere":                {read(vexOf("a", "pkg:npm/lodash")), claimed, true, 1},
		"another package":                   {read(vexOf("a", "pkg:npm/express")), rep, false, 2},
		"another of two documents":          {read(vexOf("a", "pkg:npm/express"), vexOf("b", "pkg:npm/lodash")), rep, true, 1},
	} {
		if c.said.Mention(&c.rep.Findings[0]) != c.mention || c.said.Mention(&c.rep.Findings[1]) {
			t.Errorf("%s: what is mentioned", name)
		}
		if got := c.said.Facts(&c.rep).Findings; len(got) != c.left || len(c.rep.Findings) != 2 || c.rep.Excluded != nil || c.rep.Findings[0].VEX != nil {
			t.Errorf("%s: %+v of %+v", name, got, c.rep)
		}
		shown := c.rep
		c.said.ApplyTo(&shown)
		if len(shown.Findings) != c.left || len(shown.Excluded) != 2-c.left || len(shown.Excluded) > 0 && shown.Excluded[0].VEX.Impact != "never called" {
			t.Errorf("%s: %+v, excluded %+v", name, shown.Findings, shown.Excluded)
		}
	}
	s, err := report.ReadStatements([]api.VEXDocument{{Name: "broken.json", Document: json.RawMessage(`{"bomFormat":1}`)}, vexOf("a", "pkg:npm/lodash")})
	if err == nil || !strings.Contains(err.Error(), "broken.json") || len(s.Facts(&rep).Findings) != 1 {
		t.Errorf("beside one that cannot be read: %v", err)
	}
}
