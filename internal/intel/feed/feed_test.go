package feed_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

func TestParseOSV(t *testing.T) {
	a, err := feed.ParseOSV([]byte(`{
		"schema_version": "1.6.0", "id": "GHSA-1", "aliases": ["CVE-2020-1"], "modified": "2026-01-02T03:04:05.678Z", "published": "0001-01-01T00:00:00Z",
		"details": "First sentence. Second one.\nMore.",
		"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}, {"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"}],
		"affected": [
			{"package": {"ecosystem": "npm", "name": "a"}, "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]},
			{"package": {"ecosystem": "npm", "name": "b"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.0.0"}]}], "ecosystem_specific": ["any", "shape"]},
			{"package": {"ecosystem": "", "name": "c"}, "versions": ["1"]}],
		"references": [{"type": "WEB", "url": "https://a.example"}, {"type": "ADVISORY", "url": "https://b.example"}],
		"database_specific": {"cwe_ids": [1]}, "a_later_field": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	if a.ID != "GHSA-1" || a.Title != "First sentence." || a.URL != "https://b.example" || !a.Published.IsZero() || a.Modified.Year() != 2026 {
		t.Errorf("advisory = %+v", a)
	}
	if a.Severity != event.SeverityHigh || a.SeveritySource != "cvss-v3" || !strings.HasPrefix(a.CVSS, "CVSS:3.1/") {
		t.Errorf("severity = %s by %s, %s", a.Severity, a.SeveritySource, a.CVSS)
	}
	if len(a.Affected) != 1 || a.Affected[0].Name != "b" || a.Affected[0].Ranges[0].Events[1].Fixed != "1.0.0" {
		t.Errorf("affected = %+v", a.Affected)
	}
}

func TestParseOSVSeverityWords(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`{"id":"GHSA-1","database_specific":{"severity":"MODERATE"}}`, "medium ghsa"},
		{`{"id":"BIT-1","database_specific":{"severity":"High"}}`, "high osv"},
		{`{"id":"UBUNTU-1","affected":[{"ecosystem_specific":{"severity":"low"}}]}`, "low ubuntu"},
		{`{"id":"X-1","database_specific":{"severity":7}}`, "unknown "},
		{`{"id":"X-1","database_specific":"none"}`, "unknown "},
	} {
		a, err := feed.ParseOSV([]byte(c.record))
		if got := string(a.Severity) + " " + a.SeveritySource; err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.record, got, err)
		}
	}
}

// TestParseOSVOfOtherSystems: what concerns Go programs on Windows only is no
// vulnerability of anything in a container.
func TestParseOSVOfOtherSystems(t *testing.T) {
	for imports, want := range map[string]int{
		`[{"path":"path/filepath","goos":["windows"]}]`: 0, `[{"path":"a","goos":["windows","darwin"]},{"path":"b","goos":["plan9"]}]`: 0,
		`[{"path":"a","goos":["windows","linux"]}]`: 1, `[{"path":"a","goos":["windows"]},{"path":"b"}]`: 1, `[]`: 1, `"?"`: 1,
	} {
		a, err := feed.ParseOSV([]byte(`{"id":"GO-2023-2186","affected":[{"package":{"ecosystem":"Go","name":"stdlib"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{"imports":` + imports + `}}]}`))
		if err != nil || len(a.Affected) != want {
			t.Errorf("%s: %+v, %v", imports, a.Affected, err)
		}
	}
}

func TestParseOSVRefuses(t *testing.T) {
	for name, record := range map[string]string{
		"no JSON":         `<html>`,
		"no object":       `[]`,
		"no id":           `{}`,
		"an id with line": `{"id":"A\nB"}`,
		"a long id":       fmt.Sprintf(`{"id":%q}`, strings.Repeat("A", 300)),
		"another shape":   `{"id":"A-1","affected":{"package":"x"}}`,
		"many aliases":    fmt.Sprintf(`{"id":"A-1","aliases":[%s"B-1"]}`, strings.Repeat(`"B-1",`, 2001)),
		"many versions":   fmt.Sprintf(`{"id":"A-1","affected":[{"versions":[%s"1"]}]}`, strings.Repeat(`"1",`, 100_001)),
	} {
		if a, err := feed.ParseOSV([]byte(record)); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func parseTracker(text string) (advisories map[string]vuln.Advisory, skipped []string, err error) {
	advisories = map[string]vuln.Advisory{}
	err = feed.ParseTracker(strings.NewReader(text), func(a vuln.Advisory) error {
		advisories[a.Affected[0].Name+"/"+a.ID] = a
		return nil
	}, func(name string, err error) { skipped = append(skipped, fmt.Sprintf("%s: %v", name, err)) })
	return advisories, skipped, err
}

func TestTrackerStatuses(t *testing.T) {
	for _, c := range []struct{ release, want string }{
		{`{"status":"resolved","fixed_version":"1.2-3","urgency":"medium"}`, "fixed 1.2-3 medium"},
		{`{"status":"resolved","fixed_version":"0","urgency":"low"}`, "none"},
		{`{"status":"open","urgency":"not yet assigned"}`, "affected  "},
		{`{"status":"open","urgency":"unimportant"}`, "affected  negligible"},
		{`{"status":"open","urgency":"low**"}`, "affected  low"},
		{`{"status":"open","urgency":"high","nodsa":"Minor","nodsa_reason":""}`, "deferred  high"},
		{`{"status":"open","urgency":"high","nodsa":"Minor","nodsa_reason":"postponed"}`, "deferred  high"},
		{`{"status":"open","urgency":"high","nodsa":"No","nodsa_reason":"ignored"}`, "will not fix  high"},
		{`{"status":"open","urgency":"end-of-life"}`, "end of life  "},
		{`{"status":"undetermined","urgency":"not yet assigned"}`, "under investigation  "},
	} {
		got := "none"
		all, skipped, err := parseTracker(`{"p":{"CVE-1":{"releases":{"bookworm":` + c.release + `}}}}`)
		if a, ok := all["p/CVE-1"]; ok {
			x := a.Affected[0]
			fixed := ""
			if events := x.Ranges[0].Events; len(events) > 1 {
				fixed = events[1].Fixed
			}
			got = fmt.Sprintf("%s %s %s", x.State, fixed, x.Severity)
			if x.Ecosystem != "Debian:12" {
				t.Errorf("ecosystem = %q", x.Ecosystem)
			}
		}
		if got != c.want || err != nil || len(skipped) != 0 {
			t.Errorf("%s: %q, want %q (%v %v)", c.release, got, c.want, skipped, err)
		}
	}
}

func TestTrackerSkipsWhatIsMalformed(t *testing.T) {
	all, skipped, err := parseTracker(`{
		"good": {"CVE-1": {"releases": {"trixie": {"status": "open"}, "sid": {"status": "open"}, "forky": {"status": "open"}}}},
		"list": [], "word": "x",
		"half": {"CVE-2": 7, "CVE-3": {"releases": {"bookworm": {"status": "maybe"}}}, "CVE-4": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "one"}}},
		         "CVE-5": {"releases": {"bookworm": {"status": "open"}}}}}`)
	if err != nil || len(all) != 2 || len(skipped) != 5 {
		t.Errorf("advisories %v, skipped %q, %v", all, skipped, err)
	}
	var names []string
	for _, a := range all["good/CVE-1"].Affected {
		names = append(names, a.Ecosystem)
	}
	if got := strings.Join(names, " "); got != "Debian:14 Debian:sid Debian:13" {
		t.Errorf("releases = %s", got)
	}
}

func TestTrackerRefuses(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "a list": "[]", "cut off": `{"p":{"CVE-1":{"releases":{}}}`, "cut inside": `{"p":{"CVE-1":{"rel`} {
		if _, _, err := parseTracker(text); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	stop := errors.New("stop")
	err := feed.ParseTracker(strings.NewReader(`{"p":{"CVE-1":{"releases":{"sid":{"status":"open"}}}}}`), func(vuln.Advisory) error { return stop }, nil)
	if !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
}

func TestParseKEV(t *testing.T) {
	kev, err := feed.ParseKEV(strings.NewReader(`{"dateReleased":"2025-08-25T17:04:19.9796Z","vulnerabilities":[{"cveID":"CVE-2025-1","dateAdded":"2025-08-25"},{"cveID":"x"},7]}`))
	if err != nil || len(kev.Entries) != 1 || len(kev.Skipped) != 2 || kev.Released.Year() != 2025 {
		t.Errorf("%+v, %v", kev, err)
	}
	for _, text := range []string{"", "{}", "[]", `{"vulnerabilities":{}}`} {
		if _, err := feed.ParseKEV(strings.NewReader(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestExportBombIsBounded: a few kilobytes that unpack to more than a record
// may hold are left out, however they declare their size.
func TestExportBombIsBounded(t *testing.T) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, content := range []io.Reader{
		io.LimitReader(spaces{}, feed.MaxRecord+1),
		strings.NewReader(`{"id":"A-1"}`), strings.NewReader(`{"id":"A-2"}`),
	} {
		entry, err := w.Create(fmt.Sprintf("E-%d.json", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(entry, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got, skipped []string
	err := feed.ReadExport(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()),
		func(a vuln.Advisory) error { got = append(got, a.ID); return nil },
		func(name string, err error) { skipped = append(skipped, name+": "+err.Error()) })
	if err != nil || strings.Join(got, " ") != "A-1 A-2" || len(skipped) != 1 || !strings.Contains(skipped[0], "unpacks to more than") {
		t.Errorf("got %v, skipped %v, %v", got, skipped, err)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestParseModified(t *testing.T) {
	list, err := feed.ParseModified(strings.NewReader("2026-02-01T00:00:00.5Z,B\n2026-01-01T00:00:00Z,npm/A\n0001-01-01T00:00:00Z,C\nsoon,D\n"))
	if err != nil || len(list) != 4 || list[1].Path != "A" || list[0].Time.Format("2006-01-02") != "2026-02-01" || !list[2].Time.IsZero() || !list[3].Time.IsZero() {
		t.Errorf("%v, %v", list, err)
	}
	for _, text := range []string{"<html>", "2026-01-01T00:00:00Z,", "2026-01-01T00:00:00Z,a b"} {
		if _, err := feed.ParseModified(strings.NewReader(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestEcosystemNames(t *testing.T) {
	names, err := feed.Ecosystems(strings.NewReader("npm\nDebian:12\n\n../x\nGitHub Actions\nnpm\ncrates.io\n"))
	if err != nil || strings.Join(names, "|") != "GitHub Actions|crates.io|npm" {
		t.Errorf("%q, %v", names, err)
	}
}

func mirrored(f *testing.F, pattern string) {
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "mirror", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatalf("%s: %v", pattern, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func FuzzParseOSV(f *testing.F) {
	mirrored(f, "osv/*/*.json")
	f.Add([]byte(`{"id":"A-1","affected":[{"package":{"ecosystem":"Go","name":"x"},"ranges":[{"type":"SEMVER","events":[{},{"introduced":"0"},{"limit":"*"}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := feed.ParseOSV(data)
		if err != nil {
			return
		}
		if a.ID == "" || len(a.Title) > 300 || strings.ContainsAny(a.Title+a.ID, "\n\x1b") {
			t.Errorf("advisory = %+v", a)
		}
		for i := range a.Affected {
			if order, ok := vuln.OrderOf(a.Affected[i].Ecosystem); ok {
				_, _, _ = a.Affected[i].Affects(order, "1.0.0")
			}
		}
	})
}

func FuzzParseTracker(f *testing.F) {
	mirrored(f, "debian/tracker.json")
	f.Add([]byte(`{"p":{"CVE-1":{"releases":{"bookworm":{"status":"open","nodsa":"x"}}}}}`))
	f.Add([]byte(`{"a":[],"b":{"c":{"releases":{"":{"status":"resolved","fixed_version":"-"}}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = feed.ParseTracker(bytes.NewReader(data), func(a vuln.Advisory) error {
			for i := range a.Affected {
				if _, _, err := a.Affected[i].Affects(vuln.CompareDebian, "1.0-1"); err != nil {
					t.Errorf("%s: %v", a.ID, err)
				}
			}
			return nil
		}, func(string, error) {})
	})
}

func FuzzParseKEV(f *testing.F) {
	mirrored(f, "kev/*.json")
	f.Add([]byte(`{"vulnerabilities":[null,{"cveID":"CVE-"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		kev, err := feed.ParseKEV(bytes.NewReader(data))
		if err == nil && kev.Entries == nil && len(kev.Skipped) > len(data) {
			t.Errorf("%+v", kev)
		}
	})
}

func FuzzReadExport(f *testing.F) {
	mirrored(f, "osv/*/all.zip")
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = feed.ReadExport(t.Context(), bytes.NewReader(data), int64(len(data)), func(vuln.Advisory) error { return nil }, func(string, error) {})
	})
}
