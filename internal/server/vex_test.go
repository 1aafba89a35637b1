package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// notAffected is an OpenVEX document about lodash in one image.
func notAffected(digest string) string {
	return fmt.Sprintf(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://shop.example/vex/1","author":"Shop security","timestamp":"2026-11-01T00:00:00Z","version":1,
	"statements":[{"vulnerability":{"name":"CVE-2026-1000"},"products":[{"@id":%q,"subcomponents":[{"@id":"pkg:npm/lodash"}]}],"status":"not_affected",
	"justification":"vulnerable_code_not_in_execute_path","impact_statement":"<b>template</b> is never called"}]}`, digest)
}

// TestVEXDocuments: what an administrator's document says does not count, of one
// image, when it is judged, asked for and shown, and in what agents get; taken
// back, everything is as it was.
func TestVEXDocuments(t *testing.T) {
	data, p := t.TempDir(), &publisher{}
	upstream := httptest.NewServer(p)
	defer upstream.Close()
	p.build(t, data, upstream.URL, "lodash")
	s := start(t, t.TempDir(), func(o *server.Options) {
		o.Intelligence, o.Policies = data, []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\nmode: enforce\nimage: {maxSeverity: medium}\n")
	})
	agent := harbour(t, s.Server)
	c := admin(t, s)
	spoken, other := npmReport(storetest.Digest("1"), "lodash", "express"), npmReport(storetest.Digest("2"), "lodash")
	m, err := intel.Verify(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*report.Report{&spoken, &other} { // as an agent sends them
		r.Intelligence = m.Intelligence()
		r.Findings = []event.Finding{{ID: "CVE-2026-1000", Severity: event.SeverityCritical, State: event.FixFixed, FixedVersion: "9.0.0", Package: r.Packages[0]}}
	}
	var records []api.Record
	for i, r := range []any{spoken, other} {
		records = append(records, storetest.Record(t, uint64(i+1), api.RecordReport, fmt.Sprint(i), r))
	}
	if err := s.Ingest(t.Context(), storetest.Batch("a1", records...)); err != nil {
		t.Fatal(err)
	}
	// stands waits until the two images are allowed or not, and the first one's finding counts or not.
	stands := func(what string, allowed, otherAllowed bool, where int) {
		t.Helper()
		eventually(t, func() (struct{}, error) {
			img, rep, err := s.Image(t.Context(), spoken.Image.Digest)
			img2, rep2, err2 := s.Image(t.Context(), other.Image.Digest)
			held, err3 := s.Store().Where(t.Context(), store.Question{Kind: store.ThingVulnerability, Name: "CVE-2026-1000"})
			if err := errors.Join(err, err2, err3); err != nil {
				return struct{}{}, err
			}
			if img.Verdict == nil || img.Verdict.Allowed != allowed || img2.Verdict == nil || img2.Verdict.Allowed != otherAllowed || held.Images != where ||
				allowed != (len(rep.Excluded) == 1) || allowed != (len(rep.Findings) == 0) || img.Findings != len(rep.Findings) || len(rep2.Excluded) != 0 {
				return struct{}{}, fmt.Errorf("%s: %+v %+v, findings %+v, excluded %+v, in %d images", what, img.Verdict, img2.Verdict, rep.Findings, rep.Excluded, held.Images)
			}
			return struct{}{}, nil
		})
	}
	stands("without a document", false, false, 2)
	put := func(name, reason, text string) (int, string) {
		return c.call("PUT", "/api/v1/vex/"+name+"?reason="+url.QueryEscape(reason), text, nil, "Content-Type", "application/json")
	}
	if status, text := put("shop.json", "the shop's own", notAffected(spoken.Image.Digest)); status != 200 || !strings.Contains(text, `"statements":1`) {
		t.Fatalf("%d %s", status, text)
	}
	stands("with a document", true, false, 1)
	_, rep, err := s.Image(t.Context(), spoken.Image.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if v := rep.Excluded[0].VEX; v == nil || v.Author != "Shop security" || v.Justification != "vulnerable_code_not_in_execute_path" || v.Impact != "<b>template</b> is never called" {
		t.Errorf("the finding does not say who says so and why: %+v", v)
	}
	if _, page := c.call("GET", "/images/"+spoken.Image.Digest, "", nil); !strings.Contains(page, "not_affected, vulnerable_code_not_in_execute_path: &lt;b&gt;template&lt;/b&gt; is never called") || !strings.Contains(page, "Shop security") {
		t.Error("the image's page does not say who says so and why")
	}
	if _, page := c.call("GET", "/intelligence", "", nil); !strings.Contains(page, "shop.json") || !strings.Contains(page, "the shop&#39;s own") {
		t.Error("the console does not list the document")
	}
	signed, err := s.PolicyFor(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	var bundle api.PolicyBundle
	if err := json.Unmarshal(signed.Payload, &bundle); err != nil || len(bundle.VEX) != 1 || bundle.VEX[0].Name != "shop.json" {
		t.Errorf("what agents get: %+v %v", bundle.VEX, err)
	}
	sent := spoken
	sent.Findings = rep.Excluded
	sent.Findings[0].VEX, sent.Intelligence = nil, rep.Intelligence
	raw, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Verdict struct{ Allowed bool } }
	if status, text := c.call("POST", "/api/v1/scans", string(raw), &answer, "Content-Type", "application/json"); status != 200 || !answer.Verdict.Allowed {
		t.Errorf("a pipeline's scan: %d %s", status, text)
	}

	// A newer document of the name replaces it; new intelligence keeps to it.
	if status, text := put("shop.json", "of packages anywhere", strings.Replace(notAffected("pkg:npm/lodash"), `,"subcomponents":[{"@id":"pkg:npm/lodash"}]`, "", 1)); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	eventually(t, func() (struct{}, error) {
		img, _, err := s.Image(t.Context(), other.Image.Digest)
		if err == nil && (img.Verdict == nil || !img.Verdict.Allowed) {
			err = errors.New("the other image is refused")
		}
		return struct{}{}, err
	})
	p.build(t, data, upstream.URL, "lodash", "express")
	eventually(t, func() (struct{}, error) {
		_, rep, err := s.Image(t.Context(), spoken.Image.Digest)
		if err == nil && (len(rep.Findings) != 1 || rep.Findings[0].ID != "CVE-2026-1001" || len(rep.Excluded) != 1) {
			err = fmt.Errorf("after new intelligence: %+v, excluded %+v", rep.Findings, rep.Excluded)
		}
		return struct{}{}, err
	})

	documents, err := s.Store().VEXDocuments(t.Context())
	if err != nil || len(documents) != 1 || documents[0].Reason != "of packages anywhere" || documents[0].Author == "" {
		t.Fatalf("%+v %v", documents, err)
	}
	if status, text := c.call("DELETE", "/api/v1/vex/shop.json?reason=wrong", "", nil); status >= 300 {
		t.Fatalf("%d %s", status, text)
	}
	stands("without the document again", false, false, 2)
	if status, _ := c.call("DELETE", "/api/v1/vex/shop.json", "", nil); status != 404 {
		t.Errorf("removed twice: %d", status)
	}
	if _, text := c.call("GET", "/api/v1/audit", "", nil); !strings.Contains(text, "vex.add") || !strings.Contains(text, "vex.remove") || !strings.Contains(text, "of packages anywhere") {
		t.Errorf("the audit log: %s", text)
	}

	for what, call := range map[string][3]string{
		"no document": {"a.json", "r", "[]"}, "no JSON": {"a.json", "r", "{"}, "another document": {"a.json", "r", `{"bomFormat":"SPDX"}`},
		"no reason": {"a.json", " ", notAffected(spoken.Image.Digest)}, "a bad name": {"-a", "r", notAffected(spoken.Image.Digest)},
		"nothing usable": {"a.json", "r", notAffected("no product")}, "too long": {"a.json", "r", notAffected(strings.Repeat("x", 1<<20))},
	} {
		if status, text := put(call[0], call[1], call[2]); status != 400 || len(text) > 10_000 {
			t.Errorf("%s: %d %.300s", what, status, text)
		}
	}
	long := func(n int) string { // a whole document of nearly 1 MiB
		return strings.Replace(notAffected(spoken.Image.Digest), `"version":1`, fmt.Sprintf(`"version":%d,"x":%q`, n, strings.Repeat("x", 900_000)), 1)
	}
	for n, want := range []int{200, 200, 400} {
		if status, text := put(fmt.Sprintf("long-%d.json", n), "r", long(n)); status != want {
			t.Errorf("document %d of nearly 1 MiB: %d %.300s", n, status, text)
		}
	}
	if _, err := s.PolicyFor(t.Context(), agent); err != nil {
		t.Errorf("with as much as may be: %v", err)
	}
}
