package vex_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vex"
)

const (
	config   = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	manifest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	other    = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

var (
	image  = event.Image{Digest: config, References: []string{"registry.example:5000/team/app:1.2", "registry.example:5000/team/app@" + manifest, "app:1.2"}}
	libssl = event.Package{Name: "libssl3", Version: "3.0.11-1", Source: "openssl", PURL: "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12"}
	lodash = event.Package{Name: "lodash", Version: "4.17.15", PURL: "pkg:npm/lodash@4.17.15"}
)

func findings() []event.Finding {
	return []event.Finding{{ID: "CVE-2023-1", Package: libssl}, {ID: "CVE-2020-2", Aliases: []string{"GHSA-2"}, Package: lodash, FixedVersion: "4.17.19"}}
}

func openVEX(statements ...string) string {
	return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.org/v","author":"us","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[` + strings.Join(statements, ",") + `]}`
}

// says is a statement on CVE-2023-1.
func says(product, status string) string {
	return fmt.Sprintf(`{"vulnerability":{"name":"CVE-2023-1"},"products":[%s],"status":%q,"justification":"component_not_present"}`, product, status)
}

// outcome is what became of each finding.
func outcome(t *testing.T, documents ...string) string {
	t.Helper()
	var set vex.Set
	for i, d := range documents {
		if _, err := set.Add(fmt.Sprintf("%d.json", i), []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	kept, excluded := set.Apply(image, findings())
	var out []string
	for _, f := range kept {
		if f.VEX != nil {
			out = append(out, f.ID+" "+f.VEX.Status)
		}
	}
	for _, f := range excluded {
		out = append(out, "-"+f.ID+" "+f.VEX.Status)
	}
	if len(kept)+len(excluded) != len(findings()) {
		t.Errorf("findings were lost: %d and %d", len(kept), len(excluded))
	}
	return strings.Join(out, ", ")
}

func TestProducts(t *testing.T) {
	for product, counts := range map[string]bool{
		`{"@id":"pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12"}`:                                                     true,
		`{"@id":"pkg:deb/debian/libssl3@3.0.11-1"}`:                                                                                 true,
		`{"@id":"pkg:deb/debian/libssl3"}`:                                                                                          true,
		`{"@id":"pkg:deb/debian/openssl?arch=source"}`:                                                                              true,
		`{"@id":"pkg:deb/debian/openssl@3.0.11-1?arch=source"}`:                                                                     true,
		`"pkg:deb/debian/libssl3"`:                                                                                                  true,
		`{"@id":"https://example.org/x","identifiers":{"purl":"pkg:deb/debian/libssl3"}}`:                                           true,
		`{"@id":"pkg:deb/debian/libssl3@3.0.11-2"}`:                                                                                 false,
		`{"@id":"pkg:deb/debian/libssl3@3.0.11-1?arch=arm64"}`:                                                                      false,
		`{"@id":"pkg:deb/ubuntu/libssl3"}`:                                                                                          false,
		`{"@id":"pkg:deb/debian/openssl"}`:                                                                                          false,
		`{"@id":"pkg:npm/libssl3"}`:                                                                                                 false,
		`{"@id":"pkg:oci/app@` + strings.Replace(manifest, ":", "%3A", 1) + `"}`:                                                    true,
		`{"@id":"pkg:oci/app@` + strings.Replace(config, ":", "%3A", 1) + `"}`:                                                      true,
		`{"@id":"pkg:oci/app@` + strings.Replace(other, ":", "%3A", 1) + `?repository_url=registry.example:5000/team/app"}`:         false,
		`{"@id":"pkg:oci/app?repository_url=registry.example:5000/team/app"}`:                                                       true,
		`{"@id":"pkg:oci/app?repository_url=registry.example:5000/team"}`:                                                           true,
		`{"@id":"pkg:oci/app?repository_url=registry.example:5000/other/app"}`:                                                      false,
		`{"@id":"pkg:oci/app?repository_url=registry.example:5000/team/app&tag=1.2"}`:                                               true,
		`{"@id":"pkg:oci/app?repository_url=registry.example:5000/team/app&tag=1.3"}`:                                               false,
		`{"@id":"pkg:docker/app@1.2"}`:                                                                                              true,
		`{"@id":"pkg:docker/library/app@1.3"}`:                                                                                      false,
		`{"@id":"registry.example:5000/team/app:1.2"}`:                                                                              true,
		`{"@id":"registry.example:5000/team/app@` + manifest + `"}`:                                                                 true,
		`{"@id":"docker.io/library/app:1.2"}`:                                                                                       true,
		`{"@id":"docker.io/evil/app:1.2"}`:                                                                                          false,
		`{"@id":"x","hashes":{"sha-256":"` + strings.TrimPrefix(config, "sha256:") + `"}}`:                                          true,
		`{"@id":"pkg:oci/app@` + strings.Replace(manifest, ":", "%3A", 1) + `","subcomponents":[{"@id":"pkg:deb/debian/libssl3"}]}`: true,
		`{"@id":"pkg:oci/app@` + strings.Replace(manifest, ":", "%3A", 1) + `","subcomponents":[{"@id":"pkg:npm/lodash"}]}`:         false,
		`{"@id":"pkg:oci/app@` + strings.Replace(other, ":", "%3A", 1) + `","subcomponents":[{"@id":"pkg:deb/debian/libssl3"}]}`:    false,
	} {
		want := ""
		if counts {
			want = "-CVE-2023-1 not_affected"
		}
		if got := outcome(t, openVEX(says(product, "not_affected"))); got != want {
			t.Errorf("%s: %q, want %q", product, got, want)
		}
	}
}

func TestStatuses(t *testing.T) {
	const p = `{"@id":"pkg:deb/debian/libssl3"}`
	for status, want := range map[string]string{
		"not_affected": "-CVE-2023-1 not_affected", "fixed": "-CVE-2023-1 fixed",
		"under_investigation": "CVE-2023-1 under_investigation", "affected": "CVE-2023-1 affected", "perhaps": "",
	} {
		if got := outcome(t, openVEX(says(p, status))); got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
	}
	later := strings.Replace(says(p, "affected"), `"status"`, `"timestamp":"2026-02-01T00:00:00Z","status"`, 1)
	if got := outcome(t, openVEX(later, says(p, "not_affected"))); got != "CVE-2023-1 affected" {
		t.Errorf("the newest statement does not count: %q", got)
	}
	if got := outcome(t, openVEX(says(p, "not_affected")), openVEX(says(p, "affected"))); got != "CVE-2023-1 affected" {
		t.Errorf("of two at one time the milder counts: %q", got)
	}
	alias := `{"vulnerability":{"@id":"https://github.com/advisories/GHSA-2","name":"OTHER-1"},"products":[{"@id":"pkg:npm/lodash"}],"status":"fixed"}`
	if got := outcome(t, openVEX(alias)); got != "-CVE-2020-2 fixed" {
		t.Errorf("by another name: %q", got)
	}
}

func TestStatementsThatCannotBeUsedAreTold(t *testing.T) {
	var set vex.Set
	notes, err := set.Add("x.json", []byte(openVEX(
		`{"vulnerability":{"name":"CVE-1"},"products":[{"@id":"pkg:npm/a"}],"status":"not_affected"}`,
		`{"vulnerability":{"name":"CVE-2"},"products":[{"@id":"urn:uuid:x y"}],"status":"fixed"}`,
		`{"vulnerability":{},"products":[{"@id":"pkg:npm/a"}],"status":"fixed"}`,
		`{"vulnerability":{"name":"CVE-3"},"products":[{"@id":"pkg:npm/a"}],"status":"fine"}`)))
	if err != nil || len(notes) != 4 || set.Len() != 0 || !strings.Contains(notes[0], "justification") {
		t.Errorf("%d statements, notes %q, %v", set.Len(), notes, err)
	}
	for _, bad := range []string{"", "[]", "{}", `{"bomFormat":"SPDX"}`, `{"@context":"https://openvex.dev/ns","statements":1}`,
		`{"document":{"csaf_version":"2.0"},"product_tree":{"branches":` + strings.Repeat(`[{"branches":`, 40) + `[]` + strings.Repeat(`}]`, 40) + `}}`} {
		if _, err := set.Add("bad.json", []byte(bad)); err == nil || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%.40q: error %v", bad, err)
		}
	}
}

const csafVEX = `{"document":{"category":"csaf_vex","csaf_version":"2.0","publisher":{"name":"Vendor"},"tracking":{"id":"VEX-1","current_release_date":"2026-01-01T00:00:00Z"}},
"product_tree":{"branches":[{"branches":[
  {"product":{"product_id":"IMG","product_identification_helper":{"purl":"pkg:oci/app?repository_url=registry.example:5000/team/app"}}},
  {"product":{"product_id":"SSL","product_identification_helper":{"purl":"pkg:deb/debian/libssl3"}}},
  {"product":{"product_id":"LO","product_identification_helper":{"purl":"pkg:npm/lodash@4.17.15"}}}]}],
 "relationships":[{"category":"default_component_of","product_reference":"SSL","relates_to_product_reference":"IMG","full_product_name":{"product_id":"IMG:SSL"}}]},
"vulnerabilities":[
 {"cve":"CVE-2023-1","product_status":{"known_not_affected":["IMG:SSL"]},"flags":[{"label":"vulnerable_code_not_present","product_ids":["IMG:SSL"]}]},
 {"cve":"CVE-2020-2","product_status":{"under_investigation":["LO"],"known_not_affected":["NOBODY"]}}]}`

const cdx = `{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:1","metadata":{"timestamp":"2026-01-01T00:00:00Z","component":{"type":"container","name":"registry.example:5000/team/app","version":"1.2","bom-ref":"root"}},
"components":[{"type":"library","bom-ref":"a","purl":"pkg:deb/debian/libssl3@3.0.11-1"}],
"vulnerabilities":[
 {"id":"CVE-2023-1","analysis":{"state":"false_positive","detail":"another product"},"affects":[{"ref":"urn:cdx:1/1#a"}]},
 {"id":"GHSA-2","analysis":{"state":"exploitable"},"affects":[{"ref":"root"}]},
 {"id":"CVE-2023-1","affects":[{"ref":"a"}]}]}`

func TestForms(t *testing.T) {
	if got, want := outcome(t, csafVEX), "CVE-2020-2 under_investigation, -CVE-2023-1 not_affected"; got != want {
		t.Errorf("CSAF: %q, want %q", got, want)
	}
	if got, want := outcome(t, cdx), "CVE-2020-2 affected, -CVE-2023-1 not_affected"; got != want {
		t.Errorf("CycloneDX: %q, want %q", got, want)
	}
	if got := outcome(t, strings.ReplaceAll(cdx, "team/app", "team/other")); got != "" {
		t.Errorf("CycloneDX of another image: %q", got)
	}
}

func TestWriteAndReadBack(t *testing.T) {
	all := findings()
	all[0].VEX = &event.Statement{Status: vex.NotAffected, Justification: "code_not_reachable", Document: "x"}
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	doc, err := vex.Write(image, all[1:], all[:1], "us", "breakwater test", at)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := vex.Write(image, all[1:], all[:1], "us", "breakwater test", at); !bytes.Equal(doc, again) {
		t.Error("the same findings give other bytes")
	}
	if got, want := outcome(t, string(doc)), "CVE-2020-2 affected, -CVE-2023-1 not_affected"; got != want {
		t.Errorf("read back: %q, want %q\n%s", got, want, doc)
	}
	var raw struct {
		Statements []map[string]any `json:"statements"`
	}
	if err := json.Unmarshal(doc, &raw); err != nil || len(raw.Statements) != 2 {
		t.Fatal(err, len(raw.Statements))
	}
	if raw.Statements[0]["action_statement"] != "Update lodash to 4.17.19." || raw.Statements[1]["impact_statement"] != "code_not_reachable" || raw.Statements[1]["justification"] != nil {
		t.Errorf("statements %v", raw.Statements)
	}
}

func TestApplyWithoutStatements(t *testing.T) {
	var none *vex.Set
	kept, excluded := none.Apply(image, findings())
	if len(excluded) > 0 || !slices.EqualFunc(kept, findings(), func(a, b event.Finding) bool { return a.ID == b.ID }) {
		t.Errorf("%v, %v", kept, excluded)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte(openVEX(says(`{"@id":"pkg:oci/app","subcomponents":[{"@id":"pkg:npm/a"}]}`, "fixed"))))
	f.Add([]byte(csafVEX))
	f.Add([]byte(cdx))
	f.Fuzz(func(t *testing.T, data []byte) {
		var set vex.Set
		if _, err := set.Add("x.json", data); err != nil && set.Len() > 0 {
			t.Error("a refused document left statements")
		}
		if kept, excluded := set.Apply(image, findings()); len(kept)+len(excluded) != 2 {
			t.Error("findings were lost")
		}
	})
}
