package feed_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// line shows an advisory in one line: what would be matched of it.
func line(a vuln.Advisory) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s/%s", a.ID, a.Severity, a.SeveritySource)
	for _, x := range a.Affected {
		fmt.Fprintf(&out, " | %s %s", x.Ecosystem, x.Name)
		for _, r := range x.Ranges {
			for _, p := range r.Events {
				switch {
				case p.Fixed != "":
					out.WriteString(" <" + p.Fixed)
				case p.LastAffected != "":
					out.WriteString(" <=" + p.LastAffected)
				case p.Introduced != "0":
					out.WriteString(" >=" + p.Introduced)
				}
			}
		}
		if x.State != "" {
			out.WriteString(" " + string(x.State))
		}
		if x.Module != "" {
			out.WriteString(" module " + x.Module)
		}
	}
	return out.String()
}

// reading collects what a reader gives.
type reading struct{ lines, skipped []string }

func (r *reading) each(a vuln.Advisory) error { r.lines = append(r.lines, line(a)); return nil }
func (r *reading) eachErratum(a vuln.Advisory) error {
	for _, one := range feed.PerVulnerability(a) {
		_ = r.each(one) // never fails
	}
	return nil
}
func (r *reading) eachOf(_ string, a vuln.Advisory) error { return r.eachErratum(a) }
func (r *reading) skip(name string, err error) {
	r.skipped = append(r.skipped, fmt.Sprintf("%s: %v", name, err))
}

func (r *reading) want(t *testing.T, err error, skipped int, lines ...string) {
	t.Helper()
	if err != nil || len(r.skipped) != skipped {
		t.Errorf("%v, skipped %q", err, r.skipped)
	}
	if got, want := strings.Join(r.lines, "\n"), strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

const secdb = `{"apkurl":"{{urlprefix}}/{{distroversion}}/{{reponame}}/{{arch}}/{{pkg.name}}-{{pkg.ver}}.apk","distroversion":"v3.20","reponame":"main",
	"packages":[
	{"pkg":{"name":"openssl","secfixes":{"3.3.1-r1":["CVE-2024-4741","CVE-2024-5535 GHSA-aaaa-bbbb-cccc"],"3.3.2-r0":["CVE-2024-5535 (+ regression)"],"0":["CVE-2022-1343"]}}},
	{"pkg":{"name":"odd","secfixes":{"1.0-r0":"CVE-2024-1","2.0-r0":["no id"]}}},
	{"pkg":7}, {"pkg":{"name":"x y"}}]}`

func TestParseSecDB(t *testing.T) {
	var r reading
	err := feed.ParseSecDB(strings.NewReader(secdb), "Alpine:v3.20", "alpine", r.each, r.skip)
	r.want(t, err, 3,
		"CVE-2024-4741 / | Alpine:v3.20 openssl <3.3.1-r1",
		"CVE-2024-5535 / | Alpine:v3.20 openssl <3.3.1-r1 <3.3.2-r0")
	for _, text := range []string{"", "[]", "{}", `{"packages":{}}`, `{"packages":[{"pkg"`} {
		if err := feed.ParseSecDB(strings.NewReader(text), "Alpine:v3.20", "alpine", r.each, r.skip); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

const csaf = `{"document":{"category":"csaf_vex","title":"a flaw","aggregate_severity":{"text":"Important"},
	"tracking":{"id":"CVE-2024-1111","initial_release_date":"2024-01-02T00:00:00+00:00","current_release_date":"2026-11-20T12:00:00+00:00"}},
	"product_tree":{"branches":[{"category":"vendor","name":"Red Hat","branches":[
		{"category":"product_name","name":"RHEL 9 BaseOS","product":{"product_id":"BaseOS-9.4","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9::baseos"}}},
		{"category":"product_name","name":"RHEL 9","product":{"product_id":"red_hat_enterprise_linux_9","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9"}}},
		{"category":"product_name","name":"RHEL 8 AppStream","product":{"product_id":"AppStream-8","product_identification_helper":{"cpe":"cpe:/a:redhat:enterprise_linux:8::appstream"}}},
		{"category":"product_name","name":"RHEL 9.2 EUS","product":{"product_id":"BaseOS-9.2-EUS","product_identification_helper":{"cpe":"cpe:/o:redhat:rhel_eus:9.2::baseos"}}},
		{"branches":[
			{"category":"product_version","product":{"product_id":"openssl-libs-1:3.0.7-28.el9_4.x86_64","product_identification_helper":{"purl":"pkg:rpm/redhat/openssl-libs@3.0.7-28.el9_4?arch=x86_64&epoch=1"}}},
			{"category":"product_version","product":{"product_id":"openssl-libs-1:3.0.7-28.el9_4.aarch64","product_identification_helper":{"purl":"pkg:rpm/redhat/openssl-libs@3.0.7-28.el9_4?arch=aarch64&epoch=1"}}},
			{"category":"product_version","product":{"product_id":"openssl-1:3.0.7-28.el9_4.src","product_identification_helper":{"purl":"pkg:rpm/redhat/openssl@3.0.7-28.el9_4?arch=src&epoch=1"}}},
			{"category":"product_version","product":{"product_id":"nodejs:18:8100020240101","product_identification_helper":{"purl":"pkg:rpmmod/redhat/nodejs@18:8100020240101:489197e6"}}},
			{"category":"product_version","product":{"product_id":"nodejs-1:18.20.2-1.module+el8.10.0+1.x86_64","product_identification_helper":{"purl":"pkg:rpm/redhat/nodejs@18.20.2-1.module%2Bel8.10.0%2B1?arch=x86_64&epoch=1"}}},
			{"category":"product_version","product":{"product_id":"compat-openssl11"}},
			{"category":"product_version","product":{"product_id":"edk2"}},
			{"category":"product_version","product":{"product_id":"shim"}}]}]}],
	"relationships":[
		{"product_reference":"openssl-libs-1:3.0.7-28.el9_4.x86_64","relates_to_product_reference":"BaseOS-9.4","full_product_name":{"product_id":"BaseOS-9.4:openssl-libs.x86_64"}},
		{"product_reference":"openssl-libs-1:3.0.7-28.el9_4.aarch64","relates_to_product_reference":"BaseOS-9.4","full_product_name":{"product_id":"BaseOS-9.4:openssl-libs.aarch64"}},
		{"product_reference":"openssl-1:3.0.7-28.el9_4.src","relates_to_product_reference":"BaseOS-9.4","full_product_name":{"product_id":"BaseOS-9.4:openssl.src"}},
		{"product_reference":"openssl-libs-1:3.0.7-28.el9_4.x86_64","relates_to_product_reference":"BaseOS-9.2-EUS","full_product_name":{"product_id":"EUS:openssl-libs"}},
		{"product_reference":"nodejs-1:18.20.2-1.module+el8.10.0+1.x86_64","relates_to_product_reference":"AppStream-8:nodejs:18","full_product_name":{"product_id":"AppStream-8:nodejs:18:nodejs"}},
		{"product_reference":"nodejs:18:8100020240101","relates_to_product_reference":"AppStream-8","full_product_name":{"product_id":"AppStream-8:nodejs:18"}},
		{"product_reference":"compat-openssl11","relates_to_product_reference":"red_hat_enterprise_linux_9","full_product_name":{"product_id":"9:compat"}},
		{"product_reference":"edk2","relates_to_product_reference":"red_hat_enterprise_linux_9","full_product_name":{"product_id":"9:edk2"}},
		{"product_reference":"shim","relates_to_product_reference":"red_hat_enterprise_linux_9","full_product_name":{"product_id":"9:shim"}}]},
	"vulnerabilities":[{"cve":"CVE-2024-1111","title":"openssl: a flaw","scores":[{"cvss_v3":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}}],
		"product_status":{"fixed":["BaseOS-9.4:openssl-libs.x86_64","BaseOS-9.4:openssl-libs.aarch64","BaseOS-9.4:openssl.src","EUS:openssl-libs","AppStream-8:nodejs:18:nodejs","unknown"],
			"known_affected":["9:compat","9:edk2"],"known_not_affected":["9:other"],"under_investigation":["9:shim"]},
		"remediations":[{"category":"no_fix_planned","details":"Will not fix","product_ids":["9:compat"]},{"category":"none_available","details":"Fix deferred","product_ids":["9:edk2"]},
			{"category":"vendor_fix","product_ids":["BaseOS-9.4:openssl-libs.x86_64"]}]}]}`

func TestParseCSAF(t *testing.T) {
	a, err := feed.ParseCSAF([]byte(csaf))
	if err != nil {
		t.Fatal(err)
	}
	want := "CVE-2024-1111 high/redhat | Red Hat:9 openssl-libs <1:3.0.7-28.el9_4 | Red Hat:8 nodejs <1:18.20.2-1.module+el8.10.0+1 module nodejs:18" +
		" | Red Hat:9 compat-openssl11 will not fix | Red Hat:9 edk2 deferred | Red Hat:9 shim under investigation"
	if got := line(a); got != want || a.Title != "openssl: a flaw" || a.Modified.Year() != 2026 || !strings.HasPrefix(a.CVSS, "CVSS:3.1/") {
		t.Errorf("got  %s\nwant %s\n%+v", got, want, a)
	}
	deep := strings.Repeat(`{"branches":[`, 5000) + strings.Repeat(`]}`, 5000)
	for what, text := range map[string]string{
		"a page": "<html>", "an advisory": `{"document":{"category":"csaf_security_advisory"},"vulnerabilities":[{"cve":"CVE-2024-1111"}]}`,
		"no CVE": `{"document":{"category":"csaf_vex"},"vulnerabilities":[{"cve":"x"}]}`, "two": `{"document":{"category":"csaf_vex"},"vulnerabilities":[{},{}]}`,
		"deep": `{"document":{"category":"csaf_vex"},"vulnerabilities":[{"cve":"CVE-2024-1111"}],"product_tree":` + deep + `}`,
	} {
		if a, err := feed.ParseCSAF([]byte(text)); err == nil {
			t.Errorf("%s: %+v", what, a)
		}
	}
}

const suseOVAL = `<?xml version="1.0" encoding="UTF-8"?>
<oval_definitions xmlns="http://oval.mitre.org/XMLSchema/oval-definitions-5"><definitions>
<definition id="oval:org.opensuse.security:def:20240001" version="1" class="vulnerability"><metadata><title>CVE-2024-0001</title>
 <reference ref_id="SUSE CVE-2024-0001" ref_url="https://www.suse.com/security/cve/CVE-2024-0001" source="SUSE CVE"/>
 <advisory from="security@suse.de"><issued date="2024-04-30"/><severity>Important</severity>
 <cve impact="important" cvss3="7/CVSS:3.1/AV:L/AC:H/PR:L/UI:N/S:U/C:H/I:H/A:H">CVE-2024-0001</cve></advisory></metadata>
 <criteria operator="OR">
  <criteria operator="AND"><criterion comment="SUSE Linux Enterprise Server 15 SP4-LTSS is installed"/>
   <criteria operator="OR"><criterion comment="libopenssl1_1-1.1.1l-150400.7.60.2 is installed"/><criterion comment="libopenssl1_1-debuginfo-1.1.1l-150400.7.60.2 is installed"/></criteria></criteria>
  <criteria operator="AND"><criteria operator="OR"><criterion comment="SUSE Linux Enterprise Module for Basesystem 15 SP5 is installed"/><criterion comment="openSUSE Leap 15.5 is installed"/></criteria>
   <criteria operator="OR"><criterion comment="libopenssl3-3.0.8-150500.5.27.1 is installed"/><criterion comment="nodejs18 is affected"/><criterion comment="gcc12 is not affected"/></criteria></criteria>
 </criteria></definition>
<definition id="oval:org.opensuse.security:def:2" class="inventory"><metadata><title>x</title></metadata></definition>
<definition id="oval:org.opensuse.security:def:3" class="patch"><metadata><title>nameless</title></metadata></definition>
</definitions></oval_definitions>`

const oracleOVAL = `<oval_definitions><definitions><definition id="oval:com.oracle.elsa:def:20241234" class="patch"><metadata>
 <title>ELSA-2024-1234:  kernel security update (IMPORTANT)</title><reference source="elsa" ref_id="ELSA-2024-1234" ref_url="https://linux.oracle.com/errata/ELSA-2024-1234.html"/>
 <advisory><severity>IMPORTANT</severity><issued date="2024-05-01"/><cve>CVE-2024-0002</cve><cve> CVE-2024-0003 </cve></advisory></metadata>
 <criteria operator="AND"><criterion comment="Oracle Linux 9 is installed"/><criteria operator="OR">
  <criteria operator="AND"><criterion comment="Oracle Linux arch is aarch64"/><criteria operator="OR"><criteria operator="AND"><criterion comment="bpftool is earlier than 0:7.2.0-427.el9"/><criterion comment="bpftool is signed with the Oracle Linux 9 key"/></criteria></criteria></criteria>
  <criteria operator="AND"><criterion comment="Oracle Linux arch is x86_64"/><criteria operator="OR"><criteria operator="AND"><criterion comment="bpftool is earlier than 0:7.2.0-427.el9"/></criteria></criteria></criteria></criteria></criteria>
</definition></definitions></oval_definitions>`

const azureOVAL = `<oval_definitions><definitions><definition class="vulnerability" id="oval:com.microsoft.azurelinux:def:1"><metadata>
 <title>CVE-2024-0004 affecting package curl for versions less than 8.8.0-2</title><reference ref_id="CVE-2024-0004" ref_url="https://nvd.nist.gov/vuln/detail/CVE-2024-0004" source="CVE"/><severity>Medium</severity></metadata>
 <criteria operator="AND"><criterion comment="Package curl is earlier than 8.8.0-2, affected by CVE-2024-0004"/></criteria></definition></definitions></oval_definitions>`

func TestParseOVAL(t *testing.T) {
	for _, c := range []struct {
		text, release, source string
		skipped               int
		lines                 []string
	}{
		{suseOVAL, "", "suse", 1, []string{"CVE-2024-0001 high/suse | SUSE:15.4 libopenssl1_1 <0:1.1.1l-150400.7.60.2" +
			" | SUSE:15.5 libopenssl3 <0:3.0.8-150500.5.27.1 | openSUSE:Leap 15.5 libopenssl3 <0:3.0.8-150500.5.27.1" +
			" | SUSE:15.5 nodejs18 affected | openSUSE:Leap 15.5 nodejs18 affected"}},
		{oracleOVAL, "", "oracle", 0, []string{"CVE-2024-0002 high/oracle | Oracle Linux:9 bpftool <0:7.2.0-427.el9", "CVE-2024-0003 high/oracle | Oracle Linux:9 bpftool <0:7.2.0-427.el9"}},
		{azureOVAL, "Azure Linux:3", "azure", 0, []string{"CVE-2024-0004 medium/azure | Azure Linux:3 curl <8.8.0-2"}},
	} {
		var r reading
		r.want(t, feed.ParseOVAL(strings.NewReader(c.text), c.release, c.source, r.eachOf, r.skip), c.skipped, c.lines...)
	}
}

// TestXMLBombs: entities do not expand, and depth and size are bounded.
func TestXMLBombs(t *testing.T) {
	laughs := `<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><oval_definitions><definitions><definition id="d" class="patch"><metadata><title>&b;</title></metadata></definition></definitions></oval_definitions>`
	deep := `<oval_definitions><definition id="d" class="patch"><metadata><title>CVE-2024-0001</title></metadata>` + strings.Repeat("<criteria>", 9000)
	var nested strings.Builder
	nested.WriteString(`<oval_definitions><definition id="d" class="patch"><metadata><title>CVE-2024-0001</title></metadata>`)
	nested.WriteString(strings.Repeat("<criteria>", 60) + strings.Repeat("</criteria>", 60) + "</definition></oval_definitions>")
	endless := io.MultiReader(strings.NewReader(`<oval_definitions><definition id="`), spaces{})
	for what, in := range map[string]io.Reader{"laughs": strings.NewReader(laughs), "deep": strings.NewReader(deep), "endless": endless} {
		var r reading
		if err := feed.ParseOVAL(in, "", "suse", r.eachOf, r.skip); err == nil || len(r.lines) > 0 {
			t.Errorf("%s: %v, %q", what, err, r.lines)
		}
	}
	var r reading
	r.want(t, feed.ParseOVAL(strings.NewReader(nested.String()), "", "suse", r.eachOf, r.skip), 1)
}

const updateinfo = `<?xml version="1.0"?><updates>
<update status="final" version="1.4" type="security"><id>ALAS2023-2024-100</id><title>Amazon Linux 2023 - ALAS2023-2024-100: Important priority package update for openssl</title>
 <issued date="2024-07-01 20:41:00"/><updated date="2024-07-02 23:22:00"/><severity>Important</severity>
 <references><reference href="https://alas.aws.amazon.com/AL2023/ALAS-2024-100.html" id="ALAS2023-2024-100" type="self"/><reference id="CVE-2024-1111" type="cve"/><reference id="CVE-2024-2222" type="cve"/></references>
 <pkglist><collection short="amazon-linux-2023"><name>x</name>
 <package name="openssl-libs" version="3.0.8" release="1.amzn2023.0.10" epoch="1" arch="x86_64"><filename>x</filename></package>
 <package name="openssl-libs" version="3.0.8" release="1.amzn2023.0.10" epoch="1" arch="aarch64"/>
 <package name="openssl-debuginfo" version="3.0.8" release="1.amzn2023.0.10" epoch="1" arch="x86_64"/></collection></pkglist></update>
<update type="bugfix"><id>ALAS2023-2024-101</id></update><update type="security"><id></id></update></updates>`

func TestParseUpdateInfo(t *testing.T) {
	for what, in := range map[string]io.Reader{"plain": strings.NewReader(updateinfo), "gzip": bytes.NewReader(packed(t, "gzip", updateinfo))} {
		var r reading
		err := feed.ParseUpdateInfo(in, "Amazon Linux:2023", "amazon", r.eachErratum, r.skip)
		r.want(t, err, 1, "CVE-2024-1111 high/amazon | Amazon Linux:2023 openssl-libs <1:3.0.8-1.amzn2023.0.10",
			"CVE-2024-2222 high/amazon | Amazon Linux:2023 openssl-libs <1:3.0.8-1.amzn2023.0.10")
		if t.Failed() {
			t.Log(what)
		}
	}
	at, err := feed.UpdateInfoLocation(strings.NewReader(`<repomd><data type="primary"><location href="a"/></data><data type="updateinfo"><location href="repodata/x-updateinfo.xml.gz"/></data></repomd>`))
	if err != nil || at != "repodata/x-updateinfo.xml.gz" {
		t.Errorf("%q, %v", at, err)
	}
	for _, bad := range []string{"", "<repomd/>", `<repomd><data type="updateinfo"><location href="../../x"/></data></repomd>`, `<repomd><data type="updateinfo"><location href="http://x/y"/></data></repomd>`} {
		if at, err := feed.UpdateInfoLocation(strings.NewReader(bad)); err == nil {
			t.Errorf("%q gives %q", bad, at)
		}
	}
}

const nvd = `{"resultsPerPage":2,"format":"NVD_CVE","vulnerabilities":[
 {"cve":{"id":"CVE-2024-1111","lastModified":"2026-11-20T01:02:03.456","vulnStatus":"Analyzed","metrics":{
  "cvssMetricV31":[{"source":"x@example","type":"Secondary","cvssData":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:L/I:N/A:N"}},{"source":"nvd@nist.gov","type":"Primary","cvssData":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}]}}},
 {"cve":{"id":"CVE-2024-2222","vulnStatus":"Rejected","metrics":{"cvssMetricV31":[{"type":"Primary","cvssData":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}]}}},
 {"cve":{"id":"CVE-2001-0001","metrics":{"cvssMetricV2":[{"type":"Primary","baseSeverity":"HIGH","cvssData":{"vectorString":"AV:N/AC:L/Au:N/C:P/I:P/A:P"}}]}}},
 {"cve":7}, {"cve":{"id":"CVE-2024-3333"}}]}`

func TestParseNVD(t *testing.T) {
	var got []string
	var r reading
	newest, err := feed.ParseNVD(bytes.NewReader(packed(t, "gzip", nvd)), func(x feed.Rating) error {
		got = append(got, fmt.Sprintf("%s %s %s", x.CVE, x.Severity, x.Vector))
		return nil
	}, r.skip)
	if err != nil || newest.Format("2006-01-02") != "2026-11-20" || len(r.skipped) != 1 ||
		strings.Join(got, "; ") != "CVE-2024-1111 critical CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H; CVE-2001-0001 high AV:N/AC:L/Au:N/C:P/I:P/A:P" {
		t.Errorf("%q, %v, %v, %q", got, newest, err, r.skipped)
	}
}

func TestParseEPSS(t *testing.T) {
	var got []feed.Exploitability
	var r reading
	text := "#model_version:v2025.03.14,score_date:2026-11-20T12:55:00Z\ncve,epss,percentile\nCVE-2024-1111,0.91234,0.99\nCVE-1,0.1,0.1\nCVE-2024-2222,7,0.1\nCVE-2024-3333,NaN,0.1\n"
	date, err := feed.ParseEPSS(bytes.NewReader(packed(t, "gzip", text)), func(e feed.Exploitability) error { got = append(got, e); return nil }, r.skip)
	if err != nil || date.Format("2006-01-02") != "2026-11-20" || len(r.skipped) != 3 || len(got) != 1 || got[0] != (feed.Exploitability{CVE: "CVE-2024-1111", Score: 91234, Percentile: 99000}) {
		t.Errorf("%+v, %v, %v, %q", got, date, err, r.skipped)
	}
	if _, err := feed.ParseEPSS(strings.NewReader("<html>"), nil, r.skip); err == nil {
		t.Error("a page is accepted")
	}
}

// TestErrata: an erratum is taken apart into the CVEs that it mends; one that
// mends none is no vulnerability; a distribution's names become ours.
func TestErrata(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`{"id":"ALSA-2026:1","summary":"Important: openssl security update","related":["CVE-2024-1111","CVE-2024-2222"],"affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:3.0.7-28.el9"}]}],"versions":["1"]}]}`,
			"CVE-2024-1111 high/almalinux | AlmaLinux:9 openssl <1:3.0.7-28.el9; CVE-2024-2222 high/almalinux | AlmaLinux:9 openssl <1:3.0.7-28.el9"},
		{`{"id":"ALBA-2026:1","affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"bash"},"versions":["1"]}]}`, "update only"},
		{`{"id":"UBUNTU-CVE-2024-1111","upstream":["CVE-2024-1111"],"severity":[{"type":"Ubuntu","score":"medium"}],"affected":[{"package":{"ecosystem":"Ubuntu:24.04:LTS","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
			"UBUNTU-CVE-2024-1111 medium/ubuntu | Ubuntu:24.04 curl"},
		{`{"id":"RHSA-2024:1","related":["CVE-2024-1111"],"affected":[{"package":{"ecosystem":"Red Hat:enterprise_linux:9::appstream","name":"x"},"versions":["1"]}]}`, "CVE-2024-1111 unknown/ | Red Hat:9 x"},
	} {
		a, err := feed.ParseOSV([]byte(c.record))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range feed.PerVulnerability(a) {
			got = append(got, line(one))
		}
		if feed.IsUpdateOnly(a) {
			got = []string{"update only"}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), c.want)
		}
	}
}

func TestParseObservables(t *testing.T) {
	sha, md5 := strings.Repeat("ab", 32), strings.Repeat("cd", 16)
	for what, c := range map[string]struct {
		text, want string
		skipped    int
	}{
		"plain list": {"# known bad\n" + strings.ToUpper(sha) + " Some.Name\n\n203.0.113.9:443\n198.51.100.0/24 botnet\n*.Evil.example.\nhttps://bad.example/x?y\n10.0.0.1\n127.0.0.1\n0.0.0.0/0\nlocalhost\n",
			"sha256 " + sha + " Some.Name; address 203.0.113.9; network 198.51.100.0/24 botnet; domain evil.example; domain bad.example", 4},
		"MalwareBazaar": {"# \"first_seen_utc\",\"sha256_hash\",\"md5_hash\",\"sha1_hash\",\"reporter\",\"file_name\",\"signature\"\n\"2026-11-20 10:00:00\", \"" + sha + "\", \"" + md5 + "\", \"x\", \"r\", \"a.elf\", \"Mirai\"\n",
			"sha256 " + sha + " Mirai", 0},
		"Feodo Tracker": {"# notes\n\"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\",\"last_online\",\"malware\"\n\"2026-11-20 10:00:00\",\"203.0.113.5\",\"443\",\"online\",\"2026-11-21\",\"QakBot\"\n", "address 203.0.113.5 QakBot", 0},
		"URLhaus":       {"# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\n\"1\",\"2026-11-20 10:00:00\",\"http://drop.example:8080/m.sh\",\"online\",\"\",\"malware_download\",\"elf\",\"https://urlhaus.abuse.ch/url/1/\",\"r\"\n", "domain drop.example malware_download", 0},
		"STIX": {`{"type":"bundle","id":"bundle--1","objects":[{"type":"identity"},
			{"type":"indicator","name":"C2","pattern_type":"stix","pattern":"[ipv4-addr:value = '203.0.113.1' OR domain-name:value = 'c2.example']","valid_until":"2027-01-01T00:00:00Z","confidence":80},
			{"type":"indicator","pattern":"[file:hashes.'SHA-256' = '` + sha + `']"},{"type":"indicator","pattern":"[ipv4-addr:value = '203.0.113.2'] AND [x:y = 'z']"},
			{"type":"indicator","revoked":true,"pattern":"[ipv4-addr:value = '203.0.113.3']"},{"type":7}]}`,
			"address 203.0.113.1 C2 80 2027-01-01; domain c2.example C2 80 2027-01-01; sha256 " + sha, 2},
	} {
		var got []string
		var r reading
		err := feed.ParseObservables(strings.NewReader(c.text), func(o feed.Observable) error {
			text := fmt.Sprintf("%s %s %s", o.Kind, o.Value, o.Name)
			if o.Confidence > 0 {
				text += fmt.Sprintf(" %d %s", o.Confidence, o.Ends.Format("2006-01-02"))
			}
			got = append(got, strings.TrimSpace(text))
			return nil
		}, r.skip)
		if err != nil || strings.Join(got, "; ") != c.want || len(r.skipped) != c.skipped {
			t.Errorf("%s: %v\ngot  %s\nwant %s\nskipped %q", what, err, strings.Join(got, "; "), c.want, r.skipped)
		}
	}
}

func TestParseDetections(t *testing.T) {
	good := "apiVersion: breakwater/v1\nkind: Detection\nid: miner\n"
	archive := packed(t, "xz", string(tarOf(t, map[string]string{"d/miner.yaml": good, "d/other.yaml": "kind: Policy\nid: x\n", "d/README": "x", "e/miner.yaml": good})))
	var names []string
	var r reading
	err := feed.ParseDetections(t.Context(), bytes.NewReader(archive), func(name string, text []byte) error {
		names = append(names, name)
		return nil
	}, r.skip)
	if err != nil || strings.Join(names, " ") != "miner.yaml" || len(r.skipped) != 2 {
		t.Errorf("%v, %q, %q", err, names, r.skipped)
	}
}

// TestBombsAreBounded: archives that unpack to much more than they are.
func TestBombsAreBounded(t *testing.T) {
	var big bytes.Buffer
	w := gzip.NewWriter(&big)
	if _, err := io.Copy(w, io.LimitReader(spaces{}, 8<<20)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	r, err := feed.Unpack(&big, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err == nil || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	for kind, text := range map[string]string{"gzip": "hello", "xz": "hello", "zstd": "hello", "": "hello"} {
		r, err := feed.Unpack(bytes.NewReader(packed(t, kind, text)), 5)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
}

// TestEndlessElements: a document whose one element has no end takes no more
// memory than an element may.
func TestEndlessElements(t *testing.T) {
	var r reading
	rating := func(feed.Rating) error { return nil }
	observable := func(feed.Observable) error { return nil }
	for what, read := range map[string]func(io.Reader) error{
		"nvd":     func(in io.Reader) error { _, err := feed.ParseNVD(in, rating, r.skip); return err },
		"secdb":   func(in io.Reader) error { return feed.ParseSecDB(in, "Alpine:edge", "alpine", r.each, r.skip) },
		"stix":    func(in io.Reader) error { return feed.ParseObservables(in, observable, r.skip) },
		"tracker": func(in io.Reader) error { return feed.ParseTracker(in, r.each, r.skip) },
	} {
		if err := read(io.MultiReader(strings.NewReader(`{"other":"`), spaces{})); err == nil || !strings.Contains(err.Error(), "bound") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func packed(t testing.TB, kind, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "xz":
		w, err = xz.NewWriter(&buf)
	case "zstd":
		w, err = zstd.NewWriter(&buf)
	default:
		return []byte(text)
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func FuzzParseSecDB(f *testing.F) {
	f.Add([]byte(secdb))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_ = feed.ParseSecDB(bytes.NewReader(data), "Alpine:v3.20", "alpine", r.each, r.skip)
	})
}

func FuzzParseCSAF(f *testing.F) {
	f.Add([]byte(csaf))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := feed.ParseCSAF(data); err == nil && !strings.HasPrefix(a.ID, "CVE-") {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzParseOVAL(f *testing.F) {
	f.Add([]byte(suseOVAL))
	f.Add([]byte(oracleOVAL))
	f.Add([]byte(azureOVAL))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_ = feed.ParseOVAL(bytes.NewReader(data), "Azure Linux:3", "azure", r.eachOf, r.skip)
	})
}

func FuzzParseUpdateInfo(f *testing.F) {
	f.Add([]byte(updateinfo))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_ = feed.ParseUpdateInfo(bytes.NewReader(data), "Amazon Linux:2023", "amazon", r.eachErratum, r.skip)
	})
}

func FuzzParseScores(f *testing.F) {
	f.Add([]byte(nvd))
	f.Add([]byte("#x,score_date:2026-11-20\nCVE-2024-1111,0.9,0.9\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_, _ = feed.ParseNVD(bytes.NewReader(data), func(feed.Rating) error { return nil }, r.skip)
		_, _ = feed.ParseEPSS(bytes.NewReader(data), func(e feed.Exploitability) error {
			if e.Score < 0 || e.Score > feed.EPSSUnit {
				t.Errorf("%+v", e)
			}
			return nil
		}, r.skip)
	})
}

func FuzzParseObservables(f *testing.F) {
	f.Add([]byte("203.0.113.9:443 x\nhttps://[2001:db8::1]/\n*.a.example\n"))
	f.Add([]byte(`{"objects":[{"type":"indicator","pattern":"[file:hashes.MD5='d41d8cd98f00b204e9800998ecf8427e']"}]}`))
	f.Add([]byte("\"dst_ip\",\"malware\"\n\"203.0.113.5\",\"x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_ = feed.ParseObservables(bytes.NewReader(data), func(o feed.Observable) error {
			if o.Value == "" || strings.ContainsAny(o.Value+o.Name, "\n\x1b") {
				t.Errorf("%+v", o)
			}
			return nil
		}, r.skip)
	})
}

func FuzzParseLists(f *testing.F) {
	f.Add([]byte("2026-01-01T00:00:00Z,npm/A\n"))
	f.Add([]byte("\"2024/cve-2024-1.json\",\"2026-01-01T00:00:00+00:00\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func(io.Reader) ([]feed.Change, error){feed.ParseModified, feed.ParseChanges} {
			list, err := parse(bytes.NewReader(data))
			for _, c := range list {
				if err == nil && (strings.Contains(c.Path, "..") && strings.HasPrefix(c.Path, "..") || strings.HasPrefix(c.Path, "/")) {
					t.Errorf("%+v", c)
				}
			}
		}
		_, _ = feed.UpdateInfoLocation(bytes.NewReader(data))
	})
}

func FuzzUnpack(f *testing.F) {
	for _, kind := range []string{"gzip", "xz", "zstd", ""} {
		f.Add(packed(f, kind, string(tarOf(f, map[string]string{"a.json": "{}"}))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reading
		_ = feed.EachFile(t.Context(), bytes.NewReader(data), func(string) bool { return true }, func(string, []byte) error { return nil }, r.skip)
	})
}
