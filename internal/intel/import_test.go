package intel_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"go.etcd.io/bbolt"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// writeTrivy writes a trivy-db of schema 2 in its documented layout.
func writeTrivy(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(tx *bbolt.Tx, value any, keys ...string) {
		b, err := tx.CreateBucketIfNotExists([]byte(keys[0]))
		for _, k := range keys[1 : len(keys)-1] {
			if err == nil {
				b, err = b.CreateBucketIfNotExists([]byte(k))
			}
		}
		text, e := json.Marshal(value)
		if err = errors.Join(err, e); err == nil {
			err = b.Put([]byte(keys[len(keys)-1]), text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	type m = map[string]any
	err = db.Update(func(tx *bbolt.Tx) error {
		put(tx, m{"Title": "a flaw", "VendorSeverity": m{"nvd": 3}, "CVSS": m{"nvd": m{"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}}}, "vulnerability", "CVE-2024-1111")
		put(tx, m{"FixedVersion": "3.1.4-r1", "Status": 3}, "alpine 3.20", "openssl", "CVE-2024-1111")
		put(tx, m{"Status": 5, "Severity": 1}, "debian 12", "tar", "CVE-2005-2541")
		put(tx, m{"Status": 1}, "debian 12", "tar", "CVE-2099-1") // not affected
		put(tx, m{"FixedVersion": "1:3.0.7-28.el9_4", "Entries": []m{{"FixedVersion": "1:3.0.7-28.el9_4", "Status": 3, "Arches": []string{"x86_64"}}}}, "alma 9", "openssl", "CVE-2024-1111")
		put(tx, m{"VulnerableVersions": []string{">=1.0.0, <1.2.3", "=2.0.0"}, "PatchedVersions": []string{"1.2.3"}, "VendorIDs": []string{"GHSA-aaaa-bbbb-cccc"}}, "npm::GitHub Security Advisory npm", "left-pad", "CVE-2024-2222")
		for i := range 3000 { // enough for branch pages
			put(tx, m{"FixedVersion": "9.9"}, "ubuntu 24.04", fmt.Sprintf("many-%04d", i), "CVE-2024-3333")
		}
		put(tx, m{"FixedVersion": strings.Repeat("1.", 5000)}, "ubuntu 24.04", "long", "CVE-2024-4444") // overflow pages
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func tarred(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range sortedKeys(files) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstded(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func imported(t *testing.T, data, from string) intel.Manifest {
	t.Helper()
	m, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: from, Name: "test", Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func summary(t *testing.T, b *intel.Bundle, pkgs ...event.Package) string {
	t.Helper()
	findings, _, _, err := b.Match(t.Context(), report.Distro{}, pkgs)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s %s %q", f.ID, f.Severity, f.State, f.FixedVersion))
	}
	return strings.Join(out, "; ")
}

func TestImportTrivy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trivy.db")
	writeTrivy(t, path)
	archive := gzipped(t, tarred(t, map[string][]byte{"trivy.db": readFile(t, path), "metadata.json": []byte(`{"Version":2,"UpdatedAt":"2026-11-20T06:00:00Z"}`)}))
	for what, from := range map[string]string{"plain": path, "archive": writeFile(t, archive), "artifact": pushed(t, archive, "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip")} {
		data := buildMirror(t)
		m := imported(t, data, from)
		s := source(t, m, "import/trivy")
		if !s.Imported || s.URL != from || s.Digest == "" || s.Ecosystems["Alpine:v3.20"] != 1 || what != "plain" && s.Updated.Format(time.DateOnly) != "2026-11-20" {
			t.Errorf("%s: source = %+v", what, s)
		}
		b := open(t, data)
		got := summary(t, b,
			event.Package{Name: "libssl3", Version: "3.1.4-r0", Ecosystem: "Alpine:v3.20", Source: "openssl"},
			event.Package{Name: "openssl", Version: "1:3.0.7-27.el9", Ecosystem: "AlmaLinux:9"},
			npm("left-pad", "1.1.0"), npm("left-pad", "2.0.0"), npm("left-pad", "1.2.3"),
			event.Package{Name: "tar", Version: "1.34+dfsg-1.2+deb12u1", Ecosystem: "Debian:12"},
			event.Package{Name: "many-2999", Version: "1.0", Ecosystem: "Ubuntu:24.04"},
			event.Package{Name: "many-2999", Version: "9.9", Ecosystem: "Ubuntu:24.04"})
		want := `CVE-2024-1111 high fixed "3.1.4-r1"; CVE-2024-1111 high fixed "1:3.0.7-28.el9_4"; CVE-2024-2222 unknown fixed "1.2.3"; ` +
			`CVE-2024-2222 unknown affected ""; CVE-2005-2541 low will not fix ""; CVE-2024-3333 unknown fixed "9.9"`
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
		}
		if findings, _ := match(t, b, npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
			t.Errorf("%s: the other feeds: %q", what, ids(findings))
		}
	}
}

// TestImportStays: an imported feed stays through updates until it is removed.
func TestImportStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trivy.db")
	writeTrivy(t, path)
	p, data := newPublisher(t), t.TempDir()
	build(t, intel.Options{Data: data, Source: p.URL})
	imported(t, data, path)
	p.set("/kev/known_exploited_vulnerabilities.json", `{"vulnerabilities":[{"cveID":"CVE-2025-1234","dateAdded":"2025-08-25"}]}`)
	for range 2 { // with news, and without
		if m := build(t, intel.Options{Data: data, Source: p.URL}); !source(t, m, "import/trivy").Imported {
			t.Error("the import is gone")
		}
		if got := summary(t, open(t, data), npm("left-pad", "1.1.0")); got == "" {
			t.Error("its rows are gone")
		}
	}
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, Remove: "import/trivy"}); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, open(t, data), npm("left-pad", "1.1.0")); got != "" {
		t.Errorf("after removal: %s", got)
	}
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, Remove: "kev"}); err == nil || !strings.Contains(err.Error(), "no imported feed") {
		t.Errorf("removing a publisher's feed: %v", err)
	}
}

// writeGrype writes a Grype database of schema 6 in its documented layout.
func writeGrype(t *testing.T, path string, more ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	statements := append([]string{
		`CREATE TABLE blobs (id INTEGER PRIMARY KEY, value TEXT NOT NULL)`,
		`CREATE TABLE db_metadata (build_timestamp datetime, model integer, revision integer, addition integer)`,
		`INSERT INTO db_metadata VALUES ('2026-11-21 01:02:03+00:00', 6, 1, 9)`,
		`CREATE TABLE vulnerability_handles (id INTEGER PRIMARY KEY, name TEXT, status TEXT, provider_id TEXT, blob_id INTEGER)`,
		`CREATE TABLE operating_systems (id INTEGER PRIMARY KEY, name TEXT, release_id TEXT, major_version TEXT, minor_version TEXT, label_version TEXT, codename TEXT, channel TEXT)`,
		`CREATE TABLE packages (id INTEGER PRIMARY KEY, ecosystem TEXT, name TEXT)`,
		`CREATE TABLE affected_package_handles (id INTEGER PRIMARY KEY, vulnerability_id INTEGER, operating_system_id INTEGER, package_id INTEGER, blob_id INTEGER)`,
		`CREATE TABLE known_exploited_vulnerability_handles (id INTEGER PRIMARY KEY, cve TEXT, blob_id INTEGER)`,
		`CREATE TABLE epss_handles (id INTEGER PRIMARY KEY, cve TEXT, epss REAL, percentile REAL)`,
		`INSERT INTO operating_systems VALUES (1, 'redhat', 'rhel', '9', '', '', '', ''), (2, 'redhat', 'rhel', '9', '2', '', '', 'eus')`,
		`INSERT INTO packages VALUES (1, 'rpm', 'openssl'), (2, 'go-module', 'example.org/mod')`,
		`INSERT INTO blobs VALUES (1, '{"id":"CVE-2024-1111","description":"A flaw. More.","severities":[{"scheme":"CHMLN","value":"high","rank":1}],"refs":[{"url":"https://a.example/1"}]}'),
			(2, '{"ranges":[{"version":{"type":"rpm","constraint":"< 1:3.0.7-28.el9_4"},"fix":{"version":"1:3.0.7-28.el9_4","state":"fixed"}}]}'),
			(3, '{"ranges":[{"version":{"type":"rpm","constraint":""},"fix":{"state":"wont-fix"}}]}'),
			(4, '{"id":"GHSA-aaaa-bbbb-cccc","aliases":["CVE-2024-2222"],"severities":[{"scheme":"CVSS","value":{"vector":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","version":"3.1"}}]}'),
			(5, '{"ranges":[{"version":{"type":"semver","constraint":">=1.0.0,<1.2.3||=2.0.0"},"fix":{"version":"1.2.3","state":"fixed"}}]}')`,
		`INSERT INTO vulnerability_handles VALUES (1, 'CVE-2024-1111', 'active', 'rhel', 1), (2, 'CVE-2024-9999', 'active', 'rhel', NULL), (3, 'GHSA-aaaa-bbbb-cccc', 'active', 'github', 4), (4, 'CVE-2024-8888', 'rejected', 'rhel', NULL)`,
		`INSERT INTO affected_package_handles VALUES (1, 1, 1, 1, 2), (2, 2, 1, 1, 3), (3, 3, NULL, 2, 5), (4, 4, 1, 1, 3), (5, 2, 2, 1, 2)`,
		`INSERT INTO known_exploited_vulnerability_handles VALUES (1, 'CVE-2024-1111', 1)`,
		`INSERT INTO epss_handles VALUES (1, 'CVE-2024-1111', 0.91234, 0.99)`,
	}, more...)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestImportGrype(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vulnerability.db")
	writeGrype(t, path)
	archive := zstded(t, tarred(t, map[string][]byte{"vulnerability.db": readFile(t, path)}))
	for what, from := range map[string]string{"plain": path, "archive": writeFile(t, archive), "artifact": pushed(t, archive, "application/zstd")} {
		data := t.TempDir() // an import alone makes a bundle too
		s := source(t, imported(t, data, from), "import/grype")
		if s.Updated.Format(time.DateOnly) != "2026-11-21" || s.Records != 3 {
			t.Errorf("%s: source = %+v", what, s)
		}
		b := open(t, data)
		got := summary(t, b, event.Package{Name: "openssl", Version: "1:3.0.7-27.el9", Ecosystem: "Red Hat:9"},
			event.Package{Name: "example.org/mod", Version: "v1.1.0", Ecosystem: "Go"}, event.Package{Name: "example.org/mod", Version: "v1.2.3", Ecosystem: "Go"})
		want := `CVE-2024-1111 high fixed "1:3.0.7-28.el9_4"; CVE-2024-9999 unknown will not fix ""; CVE-2024-2222 critical fixed "1.2.3"`
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
		}
		findings, _, _, err := b.Match(t.Context(), report.Distro{}, []event.Package{{Name: "openssl", Version: "1:3.0.7-27.el9", Ecosystem: "Red Hat:9"}})
		if err != nil || !findings[0].KnownExploited || findings[0].EPSS != 0.91234 || findings[0].Percentile != 0.99 {
			t.Errorf("%s: %+v, %v", what, findings, err)
		}
	}
}

// TestHostileImports: each is refused with its reason, and the bundle in use
// stays.
func TestHostileImports(t *testing.T) {
	data := buildMirror(t)
	before, err := intel.Verify(data)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trivy, grype := filepath.Join(dir, "trivy.db"), filepath.Join(dir, "grype.db")
	writeTrivy(t, trivy)
	writeGrype(t, grype)
	withView, withTrigger := filepath.Join(dir, "view.db"), filepath.Join(dir, "trigger.db")
	writeGrype(t, withView, "DROP TABLE packages", "CREATE VIEW packages AS SELECT 1 AS id, 'npm' AS ecosystem, 'x' AS name")
	writeGrype(t, withTrigger, "CREATE TRIGGER t AFTER INSERT ON packages BEGIN DELETE FROM packages; END")
	for what, c := range map[string]struct {
		content []byte
		want    string
	}{
		"nothing":               {nil, "not one hash"},
		"a page":                {[]byte("<html>sign in</html>"), "not one hash"},
		"half a trivy-db":       {readFile(t, trivy)[:40000], "bbolt"},
		"trivy of other schema": {tarred(t, map[string][]byte{"trivy.db": readFile(t, trivy), "metadata.json": []byte(`{"Version":9}`)}), "schema 9"},
		"half a grype":          {readFile(t, grype)[:20000], "vulnerability.db"},
		"a view":                {readFile(t, withView), "only plain tables"},
		"a trigger":             {readFile(t, withTrigger), "only plain tables"},
		"bundle without key":    {tarred(t, map[string][]byte{"manifest.json": []byte("{}"), "manifest.sig": make([]byte, 64), "bundle.db": []byte("x")}), "not signed by the key"},
		"an empty archive":      {tarred(t, map[string][]byte{"else": nil}), "no bundle, trivy-db"},
	} {
		_, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: writeFile(t, c.content), Name: "test", Program: "test"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if m, err := intel.Verify(data); err != nil || m.Version != before.Version {
			t.Errorf("%s: in use is %s, %v", what, m.Version, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(data, "intel", ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestImportList(t *testing.T) {
	data := buildMirror(t)
	hash := strings.Repeat("ab", 32)
	imported(t, data, writeFile(t, []byte(hash+" Mirai\n203.0.113.7 C2\nevil.example\n")))
	b := open(t, data)
	if name, source, ok := b.Malware(strings.ToUpper(hash)); !ok || name != "Mirai" || source != "list/test" {
		t.Errorf("%q %q %v", name, source, ok)
	}
	if _, _, ok := b.Malware(strings.Repeat("cd", 32)); ok {
		t.Error("an unknown hash is known")
	}
	var got []string
	for in, err := range b.Indicators(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(in.Kind)+" "+in.Value+" "+in.Name)
	}
	if strings.Join(got, "; ") != "address 203.0.113.7 C2; domain evil.example " {
		t.Errorf("indicators = %q", got)
	}
}

// pushed puts a blob as the only layer of an artifact into a registry on
// loopback and returns its address.
func pushed(t *testing.T, content []byte, kind types.MediaType) string {
	t.Helper()
	reference := testRegistry(t) + "/some/database:latest"
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: static.NewLayer(content, kind), MediaType: kind})
	if err != nil {
		t.Fatal(err)
	}
	pushImage(t, reference, img)
	return "oci://" + reference
}

func testRegistry(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func pushImage(t *testing.T, reference string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestExportImport: what one host exports another takes in, byte for byte, whole
// and as a delta, from a file and from a registry, if it trusts the key.
func TestExportImport(t *testing.T) {
	p, data, other := newPublisher(t), t.TempDir(), t.TempDir()
	first := build(t, intel.Options{Data: data, Source: p.URL})
	whole := exported(t, func(w *bytes.Buffer) error { _, err := intel.Export(t.Context(), data, w); return err })
	if again := exported(t, func(w *bytes.Buffer) error { _, err := intel.Export(t.Context(), data, w); return err }); !bytes.Equal(whole, again) {
		t.Error("two exports of one bundle differ")
	}
	from := writeFile(t, whole)
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: other, From: from}); !errors.Is(err, intel.ErrUntrusted) {
		t.Errorf("without a trusted key: %v", err)
	}
	if _, err := intel.TrustFile(other, filepath.Join(data, "keys", "intel.pub")); err != nil {
		t.Fatal(err)
	}
	if m := imported(t, other, from); m.Version != first.Version {
		t.Errorf("imported %s", m.Version)
	}

	reference := testRegistry(t) + "/security/intel:1"
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "minimist")})))
	second := build(t, intel.Options{Data: data, Source: p.URL})
	delta := exported(t, func(w *bytes.Buffer) error {
		_, err := intel.ExportDelta(t.Context(), data, first.Version, w)
		return err
	})
	if len(delta) >= len(whole) {
		t.Errorf("the delta has %d bytes, the whole %d", len(delta), len(whole))
	}
	if m := imported(t, other, writeFile(t, delta)); m.SHA256 != second.SHA256 {
		t.Errorf("by delta: %s", m.Version)
	}
	if findings, _ := match(t, open(t, other), npm("minimist", "1.2.5")); ids(findings) != "X-1" {
		t.Errorf("after the delta: %q", ids(findings))
	}
	if _, err := intel.ExportDelta(t.Context(), data, "2020-01-01-000000000000", &bytes.Buffer{}); !errors.Is(err, intel.ErrNoBase) {
		t.Errorf("a delta from nowhere: %v", err)
	}

	third := t.TempDir() // has nothing, or the first, or the second
	for i, start := range [][]byte{nil, whole, delta} {
		if i == 0 {
			if _, err := intel.TrustFile(third, filepath.Join(data, "keys", "intel.pub")); err != nil {
				t.Fatal(err)
			}
			if _, err := intel.Push(t.Context(), data, reference, "test"); err != nil {
				t.Fatal(err)
			}
		} else {
			if err := os.RemoveAll(filepath.Join(third, "intel")); err != nil {
				t.Fatal(err)
			}
			imported(t, third, writeFile(t, whole))
			if i == 2 {
				imported(t, third, writeFile(t, start))
			}
		}
		if m := imported(t, third, "oci://"+reference); m.SHA256 != second.SHA256 {
			t.Errorf("pulled %s", m.Version)
		}
	}
}

func TestDeltaOfOthersIsRefused(t *testing.T) {
	p, data, stranger := newPublisher(t), t.TempDir(), t.TempDir()
	first := build(t, intel.Options{Data: stranger, Source: p.URL})
	build(t, intel.Options{Data: data, Source: p.URL})
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "minimist")})))
	build(t, intel.Options{Data: stranger, Source: p.URL})
	delta := exported(t, func(w *bytes.Buffer) error {
		_, err := intel.ExportDelta(t.Context(), stranger, first.Version, w)
		return err
	})
	_, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: writeFile(t, delta)})
	if !errors.Is(err, intel.ErrUntrusted) {
		t.Errorf("a stranger's delta: %v", err)
	}
}

func exported(t *testing.T, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestReferencesAreChecked before anything is asked.
func TestReferencesAreChecked(t *testing.T) {
	for _, reference := range []string{"oci://", "oci://no-registry", "oci://UPPER/case:tag"} {
		_, err := intel.Import(t.Context(), intel.ImportOptions{Data: t.TempDir(), From: reference})
		if err == nil || !strings.Contains(err.Error(), "REGISTRY/REPOSITORY:TAG") {
			t.Errorf("%s: %v", reference, err)
		}
	}
}

// TestRegistryWithCredentials: TLS by an authority of the site's own, and a login
// of Docker's configuration.
func TestRegistryWithCredentials(t *testing.T) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "robot" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="site"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	t.Setenv("SSL_CERT_FILE", writeFile(t, authority))
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	data, other := buildMirror(t), t.TempDir()
	if _, err := intel.Push(t.Context(), data, "oci://"+host+"/site/intel:1", "test"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("without a login: %v", err)
	}
	login := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("robot:secret")))
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := intel.Push(t.Context(), data, "oci://"+host+"/site/intel:1", "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intel.TrustFile(other, filepath.Join(data, "keys", "intel.pub")); err != nil {
		t.Fatal(err)
	}
	if got := imported(t, other, "oci://"+host+"/site/intel:1"); got.SHA256 != m.SHA256 {
		t.Errorf("pulled %s", got.Version)
	}
}
