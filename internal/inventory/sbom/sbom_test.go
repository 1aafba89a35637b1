package sbom_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
	"github.com/breakwater-sec/breakwater/internal/inventory/sbom"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const (
	cyclone = `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"type":"container","name":"app:1"}},"components":[
		{"type":"operating-system","name":"debian","version":"12.5"},
		{"type":"library","name":"libc6","version":"2.36-9","purl":"pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12.5",
		 "licenses":[{"license":{"id":"GPL-2.0-only"}},{"expression":"MIT OR Apache-2.0"}],
		 "properties":[{"name":"aquasecurity:trivy:SrcName","value":"glibc"},{"name":"aquasecurity:trivy:SrcVersion","value":"2.36"},{"name":"aquasecurity:trivy:SrcRelease","value":"9"}]},
		{"type":"application","name":"package-lock.json","components":[{"type":"library","name":"core","group":"@babel","version":"7.1.0","purl":"pkg:npm/%40babel/core@7.1.0"}]},
		{"type":"library","name":"log4j-core","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{"type":"library","name":"nameless"}]}`
	spdx = `{"spdxVersion":"SPDX-2.3","packages":[
		{"name":"app:1","primaryPackagePurpose":"CONTAINER"},
		{"name":"debian","versionInfo":"12.5","primaryPackagePurpose":"OPERATING-SYSTEM"},
		{"name":"libc6","versionInfo":"2.36-9","licenseDeclared":"GPL-2.0-only","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/libc6@2.36-9?arch=amd64&upstream=glibc%402.36-9"}]},
		{"name":"@babel/core","versionInfo":"7.1.0","licenseDeclared":"NOASSERTION","licenseConcluded":"MIT","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"cpe:x"},{"referenceType":"purl","referenceLocator":"pkg:npm/%40babel/core@7.1.0"}]},
		{"name":"log4j-core","versionInfo":"2.14.1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"}]},
		{"name":"nameless"}]}`
	spdx3 = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[
		{"type":"CreationInfo","@id":"_:c","specVersion":"3.0.1"},
		{"type":"software_Package","spdxId":"i","name":"app:1","software_primaryPurpose":"container"},
		{"type":"software_Package","spdxId":"o","name":"debian","software_packageVersion":"12.5","software_primaryPurpose":"operatingSystem"},
		{"type":"software_Package","spdxId":"p","name":"libc6","software_packageVersion":"2.36-9","software_packageUrl":"pkg:deb/debian/libc6@2.36-9?arch=amd64&upstream=glibc%402.36-9"},
		{"type":"software_Package","spdxId":"q","name":"@babel/core","externalIdentifier":[{"externalIdentifierType":"cpe23","identifier":"cpe:x"},{"externalIdentifierType":"packageUrl","identifier":"pkg:npm/%40babel/core@7.1.0"}]},
		{"type":"software_Package","spdxId":"r","name":"log4j-core","software_packageUrl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{"type":"software_Package","spdxId":"s","name":"nameless"},
		{"type":"simplelicensing_LicenseExpression","spdxId":"l","simplelicensing_licenseExpression":"GPL-2.0-only"},
		{"type":"Relationship","from":"p","relationshipType":"hasDeclaredLicense","to":["l"]}]}`
	syft = `{"artifacts":[
		{"name":"libc6","version":"2.36-9","type":"deb","purl":"pkg:deb/debian/libc6@2.36-9?arch=amd64&upstream=glibc%402.36-9","licenses":[{"value":"GPL-2","spdxExpression":"GPL-2.0-only"}],"locations":[{"path":"/var/lib/dpkg/status","layerID":"sha256:aa"}],"metadata":{"source":"glibc","sourceVersion":"2.36-9"}},
		{"name":"@babel/core","version":"7.1.0","purl":"pkg:npm/%40babel/core@7.1.0","licenses":["MIT"],"metadata":{"source":{"no":"text"}}},
		{"name":"log4j-core","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{"name":"nameless"}],
		"distro":{"id":"debian","versionID":"12","prettyName":"Debian"},"source":{"metadata":{"imageID":"sha256:ff","tags":["app:1"]}},"schema":{"version":"16.0.0"}}`
)

func engine() *inventory.Engine { return drivers.All(inventory.Key{}) }

func TestFormatsSayTheSame(t *testing.T) {
	want := []string{"Debian:12 libc6 2.36-9 (glibc 2.36-9) pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12", "Maven org.apache.logging.log4j:log4j-core 2.14.1 ( ) pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "npm @babel/core 7.1.0 ( ) pkg:npm/%40babel/core@7.1.0"}
	for name, text := range map[string]string{"CycloneDX 1.6": cyclone, "SPDX-2.3": spdx, "SPDX-3.0.1": spdx3, "Syft JSON": syft} {
		t.Run(name, func(t *testing.T) {
			doc, err := sbom.Parse([]byte(text), engine())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range doc.Packages {
				got = append(got, fmt.Sprintf("%s %s %s (%s %s) %s", p.Ecosystem, p.Name, p.Version, p.Source, p.SourceVersion, p.PURL))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if doc.Format != name || doc.Distro.ID != "debian" || doc.Distro.Version != "12" || !slices.Equal(doc.Image.References, []string{"app:1"}) {
				t.Errorf("got %+v", doc)
			}
			if len(doc.Gaps) != 1 || !strings.Contains(doc.Gaps[0], `1 components of the document were not judged: they have no package URL of a known kind (the first: "nameless")`) {
				t.Errorf("gaps %q", doc.Gaps)
			}
			libc := doc.Packages[slices.IndexFunc(doc.Packages, func(p event.Package) bool { return p.Name == "libc6" })]
			if libc.Licenses[0] != "GPL-2.0-only" && libc.Licenses[1] != "GPL-2.0-only" {
				t.Errorf("licences %q", libc.Licenses)
			}
		})
	}
}

// TestOwnDocuments: what this program writes, it reads back: packages of every
// kind that it knows.
func TestOwnDocuments(t *testing.T) {
	rep := &report.Report{Tool: "breakwater test", Packages: []event.Package{
		purl.NPM("@babel/core", "7.1.0"), purl.PyPI("urllib3", "1.26.12"), purl.Maven("org.acme", "core", "1.0"), purl.Gem("rack", "2.2.3", ""),
		purl.Composer("acme/shop", "1.0.0"), purl.Cargo("serde", "1.0.0"), purl.Go("example.org/dep", "v1.2.3"), purl.Go("stdlib", "1.26.0"), purl.NuGet("Acme.Core", "1.0.0"),
		purl.Swift("github.com/acme/swift-core", "1.0.0"), purl.Pub("http", "1.0.0"), purl.Hex("plug", "1.0.0"), purl.Conan("zlib", "1.2.13", "", ""),
		purl.Hackage("aeson", "2.0"), purl.CRAN("dplyr", "1.0.0"), purl.Julia("HTTP", "1.10.0", "cd3eb016-35fb-5094-929b-558a96fad6f3"), purl.Conda("numpy", "1.26.0", "py311_0", "linux-64"),
		purl.CocoaPods("Alamofire", "5.0.0"), purl.CPAN("acme", "Acme-Core", "1.0"), purl.LuaRocks("lua-cjson", "2.1.0-1"), purl.Bitnami("redis", "7.0.0", "amd64"),
		purl.Program("Bitnami", "node", "node", "18.1.0"), purl.Program("Bitnami", "java", "openjdk", "21.0.1"), purl.Program("generic", "busybox", "busybox", "1.35.0"),
		purl.WordPress("plugin", "akismet", "5.0"),
	}}
	for name, write := range map[string]func(io.Writer, *report.Report) error{"CycloneDX": report.CycloneDX, "SPDX": report.SPDX} {
		var text bytes.Buffer
		if err := write(&text, rep); err != nil {
			t.Fatal(err)
		}
		doc, err := sbom.Parse(text.Bytes(), engine())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(doc.Gaps) > 0 {
			t.Errorf("%s: gaps %q", name, doc.Gaps)
		}
		for _, p := range rep.Packages {
			if p.PURL == "" {
				t.Fatalf("no package: %+v", p)
			}
			if !slices.ContainsFunc(doc.Packages, func(q event.Package) bool {
				return q.PURL == p.PURL && q.Name == p.Name && q.Version == p.Version && q.Ecosystem == p.Ecosystem
			}) {
				t.Errorf("%s: lost %s (%s %s)", name, p.PURL, p.Ecosystem, p.Name)
			}
		}
	}
}

// TestSyftsSPDX3: what Syft 1.57.1 wrote (-o spdx-json@3.0) of the quality gate's
// Debian image.
func TestSyftsSPDX3(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "syft-spdx-3.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := sbom.Parse(text, engine())
	if err != nil || doc.Format != "SPDX-3.0.1" || len(doc.Gaps) > 0 || len(doc.Packages) != 12 {
		t.Fatalf("%+v, %v", doc, err)
	}
	var got []string
	for _, p := range doc.Packages {
		if p.Name == "libssl3" || p.Name == "lodash" {
			got = append(got, p.Ecosystem+" "+p.Version+" "+p.Source)
		}
	}
	slices.Sort(got)
	if want := []string{"Debian:12 3.0.11-1~deb12u2 openssl", "npm 4.17.15 "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLicensesOfSPDX3: sets of licences become one expression, and one that has no
// end none.
func TestLicensesOfSPDX3(t *testing.T) {
	const head = `{"@graph":[{"type":"CreationInfo","specVersion":"3.0.1"},{"type":"software_Package","spdxId":"p","name":"a","software_packageUrl":"pkg:npm/a@1"},
		{"type":"Relationship","from":"p","relationshipType":"hasDeclaredLicense","to":["s"]},
		{"type":"expandedlicensing_ListedLicense","spdxId":"m","name":"MIT"},{"type":"expandedlicensing_ListedLicense","spdxId":"g","name":"GPL-2.0-only"},`
	for elements, want := range map[string]string{
		`{"type":"expandedlicensing_DisjunctiveLicenseSet","spdxId":"s","expandedlicensing_member":["m","g"]}`:                                                                                                      "[MIT OR GPL-2.0-only]",
		`{"type":"expandedlicensing_ConjunctiveLicenseSet","spdxId":"s","expandedlicensing_member":["m","d"]},{"type":"expandedlicensing_DisjunctiveLicenseSet","spdxId":"d","expandedlicensing_member":["m","g"]}`: "[MIT AND (MIT OR GPL-2.0-only)]",
		`{"type":"expandedlicensing_ConjunctiveLicenseSet","spdxId":"s","expandedlicensing_member":["s","s"]}`:                                                                                                      "[]",
	} {
		doc, err := sbom.Parse([]byte(head+elements+"]}"), engine())
		if err != nil || len(doc.Packages) != 1 || fmt.Sprint(doc.Packages[0].Licenses) != want {
			t.Errorf("%s: %+v, %v", elements, doc, err)
		}
	}
}

func TestWhatIsNoDocument(t *testing.T) {
	for text, want := range map[string]string{
		"":              "is not JSON",
		"<bom/>":        "is not JSON",
		"{}":            "is neither CycloneDX, SPDX nor Syft JSON",
		`{"@graph":[]}`: "is no SPDX 3.0", `{"@graph":{}}`: "SPDX 3: ", `{"@graph":[{"type":"CreationInfo","specVersion":"4.0"}]}`: "is no SPDX 3.0",
		`{"bomFormat":"CycloneDX","components":7}`: "CycloneDX: ",
	} {
		if _, err := sbom.Parse([]byte(text), engine()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	deep := `{"bomFormat":"CycloneDX","components":[` + strings.Repeat(`{"name":"a","components":[`, 3000) + strings.Repeat(`]}`, 3000) + `]}`
	if doc, err := sbom.Parse([]byte(deep), engine()); err != nil || len(doc.Packages) != 0 {
		t.Errorf("deep nesting: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{cyclone, spdx, spdx3, syft, "{", `{"artifacts":null}`} {
		f.Add([]byte(text))
	}
	e := engine()
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := sbom.Parse(data, e)
		if err != nil {
			return
		}
		for _, p := range doc.Packages {
			if p.Name == "" || p.Version == "" || p.PURL == "" {
				t.Errorf("incomplete: %+v", p)
			}
		}
	})
}
