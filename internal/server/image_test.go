package server_test

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// TestAnImagePageTellsAll: what a scan found, what to do about it, how the
// verdict changed, and the report to take along.
func TestAnImagePageTellsAll(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	harbour(t, s.Server)
	for _, v := range []event.Verdict{{Allowed: true}, {Violations: []event.Violation{{Policy: "p", Rule: "r", Message: "It became too bad"}}}} {
		if _, err := s.Store().Judge(t.Context(), store.Image{Digest: storetest.Digest("a")}, v); err != nil {
			t.Fatal(err)
		}
	}
	c := admin(t, s)
	_, page := c.call("GET", "/images/"+storetest.Digest("a"), "", nil)
	for _, want := range []string{"Eicar-Test-Signature", "deleted later, still in layer 0", "AKIA…", "Set <code>USER 10001</code>", "vulnerable_code_not_present", "What to change", "It became too bad",
		"Known to be exploited", "/reports/cyclonedx", `href="/where?kind=malware&amp;name=Eicar-Test-Signature"`} {
		if !strings.Contains(strings.ToLower(page), strings.ToLower(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, page = c.call("GET", "/images/"+storetest.Digest("a")+"?package=LZMA", "", nil)
	if !strings.Contains(page, "1 package of") || strings.Contains(page, `title="Where else is it?"><code>nginx</code>`) {
		t.Error("the filter of packages does not filter")
	}
	for _, base := range []string{"/images/", "/api/v1/images/"} {
		for format, check := range map[string]func([]byte) bool{
			"json": json.Valid, "sarif": json.Valid, "cyclonedx": json.Valid, "spdx": json.Valid, "openvex": json.Valid, "gitlab": json.Valid,
			"junit": func(b []byte) bool { var x struct{}; return xml.Unmarshal(b, &x) == nil },
			"html":  func(b []byte) bool { return strings.HasPrefix(strings.ToLower(string(b)), "<!doctype html>") },
		} {
			res := c.request("GET", base+storetest.Digest("a")+"/reports/"+format, nil)
			status, text := c.call("GET", base+storetest.Digest("a")+"/reports/"+format, "", nil)
			if status != 200 || !check([]byte(text)) || !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment;") {
				t.Errorf("%s%s: %d %.200s", base, format, status, text)
			}
		}
		for path, want := range map[string]int{storetest.Digest("a") + "/reports/table": 400, storetest.Digest("a") + "/reports/x": 400, storetest.Digest("f") + "/reports/json": 404} {
			if status, text := c.call("GET", base+path, "", nil); status != want {
				t.Errorf("%s%s: %d %s", base, path, status, text)
			}
		}
	}
}
