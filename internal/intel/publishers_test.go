package intel_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// tarOf makes an archive whose bytes depend on its entries only.
func tarOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	packed, err := zstd.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(packed)
	for _, name := range sortedKeys(files) {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))})
		if err == nil {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || packed.Close() != nil {
		t.Fatal("closing the archive")
	}
	return buf.String()
}

func vex(cve, changed, fixed string) string {
	return fmt.Sprintf(`{"document":{"category":"csaf_vex","aggregate_severity":{"text":"Important"},"tracking":{"id":%q,"current_release_date":%q}},
	"product_tree":{"branches":[{"product":{"product_id":"r","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9"}}},
	{"product":{"product_id":"p","product_identification_helper":{"purl":"pkg:rpm/redhat/curl@%s?arch=x86_64"}}}],
	"relationships":[{"product_reference":"p","relates_to_product_reference":"r","full_product_name":{"product_id":"r:p"}}]},
	"vulnerabilities":[{"cve":%q,"product_status":{"fixed":["r:p"]}}]}`, cve, changed, fixed, cve)
}

// publishAll puts a file of every publisher into a mirror.
func publishAll(t *testing.T, p *publisher) {
	t.Helper()
	for path, text := range map[string]string{
		"/epss/epss_scores-current.csv.gz": "#model_version:v1,score_date:2026-11-20T00:00:00+0000\ncve,epss,percentile\nCVE-2021-44906,0.5,0.9\n",
		"/nvd/nvdcve-2.0-2021.json.gz":     `{"vulnerabilities":[{"cve":{"id":"CVE-2024-7001","metrics":{"cvssMetricV31":[{"type":"Primary","cvssData":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}]}}}]}`,
		"/alpine/v3.20/main.json":          `{"packages":[{"pkg":{"name":"zlib","secfixes":{"1.3.1-r1":["CVE-2024-7001"]}}}]}`,
		"/wolfi/security.json":             `{"packages":[{"pkg":{"name":"zlib","secfixes":{"1.3.1-r9":["CVE-2024-7001"]}}}]}`,
		"/redhat/vex/archive_latest.txt":   "csaf_vex_2026-11-20.tar.zst\n",
		"/redhat/vex/csaf_vex_2026-11-20.tar.zst": tarOf(t, map[string]string{"2024/cve-2024-7002.json": vex("CVE-2024-7002", "2026-11-20T00:00:00+00:00", "7.76.1-29.el9"),
			"2024/cve-2024-7003.json": vex("CVE-2024-7003", "2026-11-19T00:00:00+00:00", "7.76.1-30.el9"), "2024/cve-2024-7004.json": "broken"}),
		"/redhat/vex/changes.csv":                  "\"2024/cve-2024-7002.json\",\"2026-11-20T00:00:00+00:00\"\n",
		"/suse/suse.linux.enterprise.15.xml.bz2":   `<oval_definitions><definition id="d1" class="vulnerability"><metadata><title>CVE-2024-7005</title></metadata><criteria operator="AND"><criterion comment="SUSE Linux Enterprise Server 15 SP5 is installed"/><criterion comment="curl-8.0.1-150400.5.44.1 is installed"/></criteria></definition></oval_definitions>`,
		"/oracle/com.oracle.elsa-all.xml.bz2":      `<oval_definitions><definition id="d1" class="patch"><metadata><title>ELSA-2024-1: curl</title><advisory><cve>CVE-2024-7006</cve></advisory></metadata><criteria operator="AND"><criterion comment="Oracle Linux 9 is installed"/><criterion comment="curl is earlier than 0:7.76.1-29.el9"/></criteria></definition></oval_definitions>`,
		"/azure/azurelinux-3.0-oval.xml":           `<oval_definitions><definition id="d1" class="vulnerability"><metadata><title>CVE-2024-7007 affecting curl</title></metadata><criteria operator="AND"><criterion comment="Package curl is earlier than 8.8.0-2, affected by CVE-2024-7007"/></criteria></definition></oval_definitions>`,
		"/amazon/2023/updateinfo.xml.gz":           `<updates><update type="security"><id>ALAS2023-1</id><references><reference id="CVE-2024-7008" type="cve"/></references><pkglist><collection><package name="curl" version="8.5.0" release="1.amzn2023" epoch="0" arch="x86_64"/></collection></pkglist></update></updates>`,
		"/ubuntu/osv-all.tar.xz":                   tarOf(t, map[string]string{"osv/cve/2024/UBUNTU-CVE-2024-7009.json": `{"id":"UBUNTU-CVE-2024-7009","upstream":["CVE-2024-7009"],"modified":"2026-11-20T00:00:00Z","affected":[{"package":{"ecosystem":"Ubuntu:24.04:LTS","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"8.5.0-2ubuntu10.2"}]}]}]}`, "osv/usn/USN-1.json": `{"id":"USN-1"}`}),
		"/detections.tar.gz":                       tarOf(t, map[string]string{"detections/miner.yaml": "apiVersion: breakwater/v1\nkind: Detection\nid: miner\n"}),
		"/peers.csv":                               "ip,valid_until,malware\n203.0.113.1,2020-01-01,Old\n203.0.113.2,2999-01-01,New\n203.0.113.3,,Always\n",
		"/osv/ecosystems.txt":                      "Debian\nGo\nnpm\n",
		"/unrelated":                               "x",
		"/alpine/v3.20/community.json":             `not json`,
		"/nvd/nvdcve-2.0-2022.json.gz":             `{"vulnerabilities":{}}`,
		"/suse/opensuse.leap.15.6.xml.bz2":         `<oval_definitions><!DOCTYPE`,
		"/azure/cbl-mariner-2.0-oval.xml":          "",
		"/chainguard/security.json":                "",
		"/redhat/vex/2024/cve-2024-7003.json":      vex("CVE-2024-7003", "2026-11-21T00:00:00+00:00", "7.76.1-31.el9"),
		"/redhat/vex/deletions.csv":                "",
		"/amazon/2/updateinfo.xml.gz":              `<updates><update type="security"><id>ALAS2-1</id></update></updates>`,
		"/suse/suse.linux.enterprise.micro.5.nope": "",
	} {
		p.set(path, text)
	}
}

// TestEveryPublisher builds from all of them at once, some of which are broken.
func TestEveryPublisher(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	publishAll(t, p)
	m := build(t, intel.Options{Data: data, Source: p.URL, Lists: []intel.List{{Name: "peers", URL: p.URL + "/peers.csv"}}})
	var failed []string
	for _, s := range m.Failures() {
		failed = append(failed, s.Name)
	}
	if got := strings.Join(failed, " "); got != "alpine/v3.20/community azure/2 nvd/2022 suse/opensuse.leap.15.6" {
		t.Errorf("failed: %s", got)
	}
	if s := source(t, m, "redhat"); s.Records != 2 || s.Skipped != 1 || s.Licence != "CC-BY-4.0" {
		t.Errorf("redhat: %+v", s)
	}
	b := open(t, data)
	for _, c := range []struct{ ecosystem, name, version, want string }{
		{"Alpine:v3.20", "zlib", "1.3.1-r0", `CVE-2024-7001 critical fixed "1.3.1-r1"`},
		{"Wolfi", "zlib", "1.3.1-r0", ""},
		{"Red Hat:9", "curl", "7.76.1-28.el9", `CVE-2024-7002 high fixed "0:7.76.1-29.el9"; CVE-2024-7003 high fixed "0:7.76.1-30.el9"`},
		{"SUSE:15.5", "curl", "8.0.0-1", `CVE-2024-7005 unknown fixed "0:8.0.1-150400.5.44.1"`},
		{"Oracle Linux:9", "curl", "7.76.1-28.el9", `CVE-2024-7006 unknown fixed "0:7.76.1-29.el9"`},
		{"Azure Linux:3", "curl", "8.8.0-1", `CVE-2024-7007 unknown fixed "8.8.0-2"`},
		{"Amazon Linux:2023", "curl", "8.4.0-1", `CVE-2024-7008 unknown fixed "0:8.5.0-1.amzn2023"`},
		{"Ubuntu:24.04", "curl", "8.5.0-2ubuntu10.1", `CVE-2024-7009 unknown fixed "8.5.0-2ubuntu10.2"`},
	} {
		if got := summary(t, b, event.Package{Ecosystem: c.ecosystem, Name: c.name, Version: c.version}); got != c.want {
			t.Errorf("%s: %s, want %s", c.ecosystem, got, c.want)
		}
	}
	if findings, _ := match(t, b, npm("minimist", "1.2.5")); findings[0].EPSS != 0.5 || findings[0].Percentile != 0.9 {
		t.Errorf("likelihood: %+v", findings)
	}
	contents(t, b)
}

// contents: expired indicators are not handed out, and detections are.
func contents(t *testing.T, b *intel.Bundle) {
	t.Helper()
	var peers []string
	for in, err := range b.Indicators(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, in.Value+" "+in.Name+" "+in.Source)
	}
	if got := strings.Join(peers, "; "); got != "203.0.113.2 New list/peers; 203.0.113.3 Always list/peers" {
		t.Errorf("indicators: %s", got)
	}
	files, left, err := b.Detections(t.Context())
	if err != nil || files == nil || len(left) > 0 {
		t.Fatalf("detections: %v, %v, %v", files, left, err)
	}
	if text, err := fs.ReadFile(files, "miner.yaml"); err != nil || !strings.Contains(string(text), "id: miner") {
		t.Errorf("detections: %q, %v", text, err)
	}
}

func TestRestrictedDataIsNamedFirst(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	publishAll(t, p)
	m := build(t, intel.Options{Data: data, Source: p.URL, Ecosystems: []string{"Wolfi"}})
	if s := source(t, m, "wolfi"); !strings.Contains(s.Licence, "NC-ND") {
		t.Errorf("licence = %q", s.Licence)
	}
	if got := summary(t, open(t, data), event.Package{Ecosystem: "Wolfi", Name: "zlib", Version: "1.3.1-r0"}); !strings.HasPrefix(got, "CVE-2024-7001") {
		t.Errorf("findings: %s", got)
	}
	_, err := intel.Build(t.Context(), intel.Options{Data: t.TempDir(), Ecosystems: []string{"Wolfi"}, Program: "test"})
	if err == nil || !strings.Contains(err.Error(), "licence") {
		t.Errorf("from the publisher: %v", err)
	}
}

func (p *publisher) served(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full[path]
}

func osvRecord(id, name, changed, fixed string) string {
	return fmt.Sprintf(`{"id":%q,"modified":%q,"affected":[{"package":{"ecosystem":"npm","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}]}]}`, id, changed, name, fixed)
}

// TestOnlyChangesAreFetched: records that changed, came and went, by the
// publishers' lists; what comes out is what a whole build makes.
func TestOnlyChangesAreFetched(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	publishAll(t, p)
	one, two, three := osvRecord("X-1", "a", "2026-11-01T00:00:00Z", "2.0.0"), osvRecord("X-2", "b", "2026-11-02T00:00:00Z", "2.0.0"), osvRecord("X-3", "c", "2026-11-03T00:00:00Z", "2.0.0")
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": one, "X-2.json": two, "X-3.json": three})))
	p.set("/osv/npm/modified_id.csv", "2026-11-03T00:00:00Z,X-3\n2026-11-02T00:00:00Z,X-2\n2026-11-01T00:00:00Z,X-1\n")
	build(t, intel.Options{Data: data, Source: p.URL})

	changed, added := osvRecord("X-2", "b", "2026-11-10T00:00:00Z", "3.0.0"), osvRecord("X-4", "d", "2026-11-11T00:00:00Z", "2.0.0")
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-2.json": changed, "X-3.json": three, "X-4.json": added})))
	p.set("/osv/npm/modified_id.csv", "2026-11-11T00:00:00Z,X-4\n2026-11-10T00:00:00Z,X-2\n2026-11-03T00:00:00Z,X-3\n")
	for id, text := range map[string]string{"X-2": changed, "X-3": three, "X-4": added} {
		p.set("/osv/npm/"+id+".json", text)
	}
	p.set("/redhat/vex/changes.csv", "\"2024/cve-2024-7003.json\",\"2026-11-21T00:00:00+00:00\"\n\"2024/cve-2024-7002.json\",\"2026-11-20T00:00:00+00:00\"\n")
	p.set("/redhat/vex/2024/cve-2024-7002.json", vex("CVE-2024-7002", "2026-11-20T00:00:00+00:00", "7.76.1-29.el9"))
	before := p.served("/osv/npm/all.zip") + p.served("/redhat/vex/csaf_vex_2026-11-20.tar.zst")
	m := build(t, intel.Options{Data: data, Source: p.URL})
	if n := p.served("/osv/npm/all.zip") + p.served("/redhat/vex/csaf_vex_2026-11-20.tar.zst"); n != before {
		t.Errorf("exports were fetched %d times more", n-before)
	}
	b := open(t, data)
	if got := summary(t, b, npm("a", "1.0.0"), npm("b", "2.5.0"), npm("c", "1.0.0"), npm("d", "1.0.0")); got != `X-2 unknown fixed "3.0.0"; X-3 unknown fixed "2.0.0"; X-4 unknown fixed "2.0.0"` {
		t.Errorf("npm: %s", got)
	}
	if got := summary(t, b, event.Package{Ecosystem: "Red Hat:9", Name: "curl", Version: "7.76.1-30.el9"}); got != `CVE-2024-7003 high fixed "0:7.76.1-31.el9"` {
		t.Errorf("redhat: %s", got)
	}
	if s := source(t, m, "osv/npm"); s.Records != 3 || s.Updated.Format(time.DateOnly) != "2026-11-11" {
		t.Errorf("npm: %+v", s)
	}

	p.set("/redhat/vex/csaf_vex_2026-11-20.tar.zst", tarOf(t, map[string]string{"2024/cve-2024-7002.json": vex("CVE-2024-7002", "2026-11-20T00:00:00+00:00", "7.76.1-29.el9"),
		"2024/cve-2024-7003.json": vex("CVE-2024-7003", "2026-11-21T00:00:00+00:00", "7.76.1-31.el9")}))
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-2.json": changed, "X-3.json": three, "X-4.json": added})))
	if fresh := build(t, intel.Options{Data: t.TempDir(), Source: p.URL}); fresh.SHA256 != m.SHA256 {
		t.Error("a whole build makes another bundle")
	}
}

// TestNothingNew: the same content keeps its version, and takes no room twice.
func TestNothingNew(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	publishAll(t, p)
	first := build(t, intel.Options{Data: data, Source: p.URL})
	p.fail("/kev/known_exploited_vulnerabilities.json", 500)
	second := build(t, intel.Options{Data: data, Source: p.URL})
	if first.Version != second.Version || !second.Built.After(first.Built) {
		t.Errorf("%s %s, %s %s", first.Version, first.Built, second.Version, second.Built)
	}
	if s := source(t, second, "kev"); s.Error == "" || !s.Fetched.Equal(source(t, first, "kev").Fetched) {
		t.Errorf("kev: %+v", s)
	}
	if s := source(t, second, "osv/npm"); !s.Fetched.After(source(t, first, "osv/npm").Fetched) {
		t.Errorf("npm: %+v", s)
	}
}
