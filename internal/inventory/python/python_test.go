package python_test

import (
	"archive/zip"
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/python"
)

const (
	metadata = "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6.2\nSummary: x\nLicense: MIT\nClassifier: License :: OSI Approved :: MIT License\nRequires-Dist: Flask (>=1)\n\nName: not-this\nVersion: 9\n"
	pkgInfo  = "Metadata-Version: 1.0\r\nName: PyYAML\r\nVersion: 5.3.1\r\nLicense: UNKNOWN\r\nClassifier: License :: OSI Approved :: MIT License\r\n"
	pip      = "# by pip freeze\nflask==1.0.2\nRequests[security] == 2.19.1 ; python_version < '3.8' # why\nurllib3===1.24 \\\n    --hash=sha256:aa\nopen>=1.0\nstar==1.*\ntwo==1,<2\n-e git+https://example.org/x.git@v==1#egg=x\n-r other.txt\n./local==1\n"
	pipfile  = `{"_meta":{"hash":{"sha256":"x"},"sources":[{"name":"pypi"}]},"default":{"django":{"hashes":["sha256:a"],"version":"==2.0.1"},"own":{"path":"."}},"develop":{"pytest":{"version":"==4.0"}}}`
	poetry   = "[[package]]\nname = \"Django\"\nversion = \"2.0.1\"\ndescription = \"\"\"text\nname = \"no\"\n\"\"\"\n\n[package.dependencies]\npytz = \"*\"\nname = \"x\"\nversion = \"3\"\n\n[[package]]\nname = \"pytz\"\nversion = \"2018.5\"\nfiles = [\n  {file = \"a\", hash = \"b\"},\n]\n\n[metadata]\nlock-version = \"2.0\"\n"
	uv       = "version = 1\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\nsource = { editable = \".\" }\n\n[[package]]\nname = \"anyio\"\nversion = \"4.0.0\"\nsource = { registry = \"https://example.org/simple\" }\ndependencies = [\n    { name = \"idna\", version = \"1\" },\n]\n"
	pylock   = "lock-version = '1.0'\n[[packages]]\nname = 'attrs'\nversion = '25.1.0'\n[[packages]]\nname='own'\nversion='1'\ndirectory = {path='.'}\n"
)

func TestInstalled(t *testing.T) {
	inventorytest.Run(t, python.Driver{}, []inventorytest.Case{
		{Path: "usr/lib/python3/dist-packages/Flask_Login-0.6.2.dist-info/METADATA", Content: []byte(metadata), Want: []string{"flask-login 0.6.2"}},
		{Path: "v/PyYAML-5.3.1.egg-info/PKG-INFO", Content: []byte(pkgInfo), Want: []string{"pyyaml 5.3.1"}},
		{Path: "v/PyYAML-5.3.1.egg-info", Content: []byte(pkgInfo), Want: []string{"pyyaml 5.3.1"}},
		{Path: "v/PyYAML-5.3.1-py3.7.egg/EGG-INFO/PKG-INFO", Content: []byte(pkgInfo), Want: []string{"pyyaml 5.3.1"}},
		{Path: "v/PyYAML-5.3.1-py3.7.egg", Content: egg(t), Want: []string{"pyyaml 5.3.1"}},
	}, []string{"x/METADATA", "src/PKG-INFO", "x.dist-info/RECORD"})
}

func egg(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	out, err := w.Create("EGG-INFO/PKG-INFO")
	if err == nil {
		_, err = out.Write([]byte(pkgInfo))
	}
	if err != nil || w.Close() != nil {
		t.Fatal("cannot write the egg")
	}
	return b.Bytes()
}

func TestLicences(t *testing.T) {
	for text, want := range map[string][]string{
		"License: MIT": {"MIT"},
		"License: x\nLicense-Expression: MIT OR Apache-2.0":               {"MIT OR Apache-2.0"},
		"License: " + strings.Repeat("whole text ", 20):                   nil,
		"Classifier: License :: OSI Approved :: BSD License\nLicense:":    {"BSD License"},
		"Classifier: License :: OSI Approved\nClassifier: Topic :: Other": nil,
	} {
		text = "Name: a\nVersion: 1\n" + text + "\n"
		f := inventory.File{Path: "a.dist-info/METADATA", Info: inventory.Info{Size: int64(len(text))}, Content: strings.NewReader(text)}
		p, err := python.Driver{}.Extract(f)
		if err != nil || len(p) != 1 || !slices.Equal(p[0].Licenses, want) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}

func TestLocks(t *testing.T) {
	inventorytest.Run(t, python.Locks{}, []inventorytest.Case{
		{Path: "app/requirements.txt", Locked: true, Content: []byte(pip), Want: []string{"flask 1.0.2", "requests 2.19.1", "urllib3 1.24"}},
		{Path: "app/dev-requirements.txt", Locked: true, Content: []byte("a==1\n"), Want: []string{"a 1"}},
		{Path: "app/Pipfile.lock", Locked: true, Content: []byte(pipfile), Want: []string{"django 2.0.1", "pytest 4.0"}},
		{Path: "app/poetry.lock", Locked: true, Content: []byte(poetry), Want: []string{"django 2.0.1", "pytz 2018.5"}},
		{Path: "app/uv.lock", Locked: true, Content: []byte(uv), Want: []string{"anyio 4.0.0"}},
		{Path: "app/pylock.toml", Locked: true, Content: []byte(pylock), Want: []string{"attrs 25.1.0"}},
	}, []string{"app/notes.txt", "usr/lib/python3/site-packages/x/requirements.txt", "usr/share/doc/x/requirements.txt"})
}

func FuzzInstalled(f *testing.F) {
	inventorytest.Fuzz(f, python.Driver{}, "a.dist-info/METADATA", metadata, pkgInfo)
}
func FuzzRequirements(f *testing.F) { inventorytest.Fuzz(f, python.Locks{}, "requirements.txt", pip) }
func FuzzPipfile(f *testing.F)      { inventorytest.Fuzz(f, python.Locks{}, "Pipfile.lock", pipfile) }
func FuzzTables(f *testing.F) {
	inventorytest.Fuzz(f, python.Locks{}, "poetry.lock", poetry, uv, pylock)
}
