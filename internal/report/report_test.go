package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() *report.Report {
	day := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	libc := event.Package{Name: "libc6", Version: "2.36-9", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12", Source: "glibc", Arch: "amd64", Path: "var/lib/dpkg/status", Layer: "sha256:aa", Step: "ADD file:1 in /"}
	lodash := event.Package{Name: "lodash", Version: "4.17.15", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.15", Path: "app/node_modules/lodash/package.json", Layer: "sha256:bb", LayerIndex: 1, Step: "COPY npm /app", Licenses: []string{"MIT"}}
	evil := event.Package{Name: "\x1b[2Jevil\u202e", Version: "1\n2", Ecosystem: "npm", PURL: "pkg:npm/evil@1", Path: "node_modules/a b#c/package.json", Layer: "sha256:bb", LayerIndex: 1}
	return &report.Report{
		Schema: report.SchemaVersion, Tool: "breakwater test", Time: day, Target: "app:1",
		Image:    event.Image{Digest: "sha256:cc", Platform: "linux/amd64", References: []string{"app:1"}},
		Distro:   report.Distro{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"},
		Layers:   []report.Layer{{DiffID: "sha256:aa", Step: "ADD file:1 in /", Size: 1000, Files: 10}, {DiffID: "sha256:bb", Step: "COPY npm /app", Size: 500, Files: 3}},
		Packages: []event.Package{libc, lodash, evil},
		Findings: []event.Finding{
			{ID: "CVE-2026-0003", Severity: event.SeverityLow, Package: libc, State: event.FixDeferred, Source: "debian"},
			{ID: "CVE-2026-0001", Aliases: []string{"GHSA-xxxx"}, Title: "Something is possible", Severity: event.SeverityCritical, SeveritySource: "osv", Package: lodash, State: event.FixFixed, FixedVersion: "4.17.21", KnownExploited: true, Source: "osv", URL: "https://osv.dev/vulnerability/CVE-2026-0001"},
			{ID: "CVE-2026-0002", Severity: event.SeverityMedium, Package: evil, State: event.FixAffected, Source: "osv"},
		},
		Intelligence: &report.Intelligence{Version: "2026-11-22.1", Built: day, Ecosystems: map[string]report.Freshness{"npm": {Advisories: 3, Updated: day}}},
		Gaps:         []string{"layer 1: node_modules/x/package.json: is not valid JSON"},
		Notes:        []string{"a note"},
		Excluded: []event.Finding{{ID: "CVE-2026-0004", Severity: event.SeverityHigh, Package: libc, State: event.FixFixed, FixedVersion: "2.36-9+deb12u1", Source: "debian",
			VEX: &event.Statement{Status: "not_affected", Justification: "vulnerable_code_not_in_execute_path", Author: "us", Document: "app.vex.json"}}},
		Malware: []event.Malware{{Name: "Eicar-Test-Signature", Engine: "clamav", Severity: event.SeverityCritical, Place: event.Place{Kind: event.PlaceFile, Path: "tmp/a.zip", Layer: "sha256:bb", LayerIndex: 1}}},
		Secrets: []event.Secret{
			{Rule: "aws-access-key", Title: "AWS access key", Severity: event.SeverityCritical, Excerpt: "AKIA…", Place: event.Place{Kind: event.PlaceFile, Path: "srv/.env", Line: 2, Layer: "sha256:aa", Deleted: true}},
			{Rule: "password", Title: "password in an environment variable", Severity: event.SeverityHigh, Excerpt: "…", Place: event.Place{Kind: event.PlaceEnv, Path: "DB_PASSWORD"}},
		},
		Misconfigurations: []event.Misconfiguration{{ID: "image-user-root", Title: "The image runs as root", Severity: event.SeverityMedium, Message: "USER is not set", Remediation: "Add USER 10001", References: []string{"CIS 4.1"}, Place: event.Place{Kind: event.PlaceHistory, Path: "2"}}},
		Signatures:        []event.Signature{{Kind: "cosign", Identity: "key 12ab", Reason: "is by no key that policy trusts"}},
		Looked:            []string{"secrets", "malware"},
		Advice: &report.Advice{
			Base: &report.BaseAdvice{Image: "debian:12.5", Layers: 1, Findings: 57, Fixable: 41},
			Updates: []report.Update{
				{Packages: []string{"lodash"}, Ecosystem: "npm", From: "4.17.15", To: "4.17.21", Command: "npm install lodash@4.17.21", Findings: []string{"CVE-2026-0001"}, Worst: event.SeverityCritical, Exploited: 1, LayerIndex: 1, Step: "COPY npm /app"},
				{Packages: []string{"libssl3", "openssl"}, Ecosystem: "Debian:12", From: "3.0.9-1", To: "3.0.11-1~deb12u2", Command: "apt-get install -y --only-upgrade libssl3=3.0.11-1~deb12u2 openssl=3.0.11-1~deb12u2", Findings: []string{"CVE-2026-0006", "CVE-2026-0007"}, Worst: event.SeverityHigh, Base: true},
			},
			Unfixed: 2,
		},
		Compared: &report.Difference{Other: "app:0", Time: day.AddDate(0, 0, -7), Added: []event.Package{evil}, Removed: []event.Package{}, New: []event.Finding{}, Gone: []event.Finding{}, Changed: []report.Change{{Name: "lodash", Ecosystem: "npm", From: "4.17.11", To: "4.17.15"}}, Verdict: "was allowed, is refused"},
		Accepted: []report.Accepted{{Finding: &event.Finding{ID: "CVE-2026-0005", Severity: event.SeverityHigh, EPSS: 0.42, Package: lodash, State: event.FixFixed, FixedVersion: "4.17.21", Source: "osv"}, Reason: "being moved away from", Until: day.AddDate(0, 1, 0)}},
		Verdict: &event.Verdict{Policies: []string{"payments", "watch"}, Violations: []event.Violation{
			{Policy: "payments", Rule: "image.maxSeverity", Message: "critical is above high", Remediation: "Update lodash to 4.17.21", Source: "payments.yaml:7"},
			{Policy: "watch", Rule: "image.no-root", Message: "Run as a non-root user", Audit: true},
		}},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", name, got)
	}
}

func TestGolden(t *testing.T) {
	bare := &report.Report{Schema: 1, Target: "empty:1", Image: event.Image{Digest: "sha256:dd"}}
	for name, r := range map[string]*report.Report{"full": sample(), "bare": bare} {
		for _, f := range report.Formats() {
			if f.Write == nil {
				continue
			}
			var out, again bytes.Buffer
			if err := errors.Join(f.Write(&out, r), f.Write(&again, r)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), again.Bytes()) {
				t.Errorf("%s as %s differs from run to run", name, f.Name)
			}
			golden(t, name+"."+f.Name, out.Bytes())
		}
		var table, colour bytes.Buffer
		if err := errors.Join(report.Table(&table, r, report.Look{}), report.Table(&colour, r, report.Look{Colour: true, Width: 80})); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.Bytes())
		if strings.ContainsAny(table.String(), "\x1b\u202e\r") || strings.Contains(colour.String(), "\x1b[2J") {
			t.Errorf("%s: the table passes escape sequences on", name)
		}
	}
}

func TestJSONComesBack(t *testing.T) {
	var first, second bytes.Buffer
	if err := report.JSON(&first, sample()); err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(first.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if err := report.JSON(&second, &r); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("not the same after a round: %v", err)
	}
}

// TestSARIFRules checks what GitHub's code scanning demands of an upload: no
// null, rule indexes that fit, relative URIs, stable and distinct fingerprints.
func TestSARIFRules(t *testing.T) {
	var out bytes.Buffer
	if err := report.SARIF(&out, sample()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "null") {
		t.Error("holds a null")
	}
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID              string
				RuleIndex           int
				Level               string
				PartialFingerprints map[string]string
				Locations           []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if len(run.Results) != 12 {
		t.Fatalf("%d results", len(run.Results))
	}
	seen := map[string]bool{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("rule %d is not %s", r.RuleIndex, r.RuleID)
		}
		place := r.Locations[0].PhysicalLocation
		if strings.HasPrefix(place.ArtifactLocation.URI, "/") || strings.ContainsAny(place.ArtifactLocation.URI, " #") || place.Region.StartLine < 1 {
			t.Errorf("location %+v", place)
		}
		if f := r.PartialFingerprints["breakwater/v1"]; f == "" || seen[f] {
			t.Errorf("fingerprint %q", f)
		} else {
			seen[f] = true
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "größe": "größe", "a\x1b[31mb": "a\uFFFD[31mb", "a\nb\tc": "a b c",
		"\u202eabc": "\uFFFDabc", "\xff": "\uFFFD", "\u200b": "\uFFFD", "\u009b31m": "\uFFFD31m", "\x7f": "\uFFFD",
	} {
		if got := report.Printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b]0;title\x07b\u2066")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range report.Printable(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Errorf("%q keeps %U", s, r)
			}
		}
	})
}
