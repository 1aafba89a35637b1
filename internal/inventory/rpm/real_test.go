package rpm_test

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm/rpmtest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestRealDatabases: what RPM and Berkeley DB wrote; testdata/README.md says how.
func TestRealDatabases(t *testing.T) {
	for name, path := range map[string]string{"rpmdb.sqlite.gz": "var/lib/rpm/rpmdb.sqlite", "Packages.gz": "var/lib/rpm/Packages"} {
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]int{}
		packages, err := rpm.Driver{}.ExtractClaims(file(path, content), func(owner string, _ []byte) { files[owner]++ })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.SortFunc(packages, func(a, b event.Package) int { return strings.Compare(a.Name, b.Name) })
		if len(packages) != 2 {
			t.Fatalf("%s: %+v", name, packages)
		}
		tool, libs := packages[0], packages[1]
		if tool.Name != "acme-tool" || tool.Version != "2:1.4-3.el9" || tool.Arch != "x86_64" || tool.Module != "acme:4" || !slices.Equal(tool.Licenses, []string{"GPL-2.0-or-later AND MIT"}) {
			t.Errorf("%s: %+v", name, tool)
		}
		if libs.Name != "acme-tool-libs" || libs.Version != "1.4-3.el9" || libs.Source != "acme-tool" || libs.SourceVersion != "2:1.4-3.el9" {
			t.Errorf("%s: %+v", name, libs)
		}
		if files["acme-tool"] != 302 || files["acme-tool-libs"] != 1 { // the folder too
			t.Errorf("%s: files %v", name, files)
		}
	}
}

// TestRPMReadsWhatTestsMake: the Berkeley DB that tests make is one to RPM itself.
// (Of SQLite's it also wants the tables of its indexes, which no reader needs.)
func TestRPMReadsWhatTestsMake(t *testing.T) {
	program, err := exec.LookPath("rpm")
	if err != nil {
		testenv.Missing(t, "no rpm (package rpm)")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Packages"), rpmtest.Hash(binary.LittleEndian, sample()...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--define", "_db_backend bdb_ro", "--dbpath", dir, "--nosignature", "--nodigest",
		"-qa", "--qf", "%{name} %{epochnum}:%{version}-%{release}\n").Output()
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(got)
	want := []string{"bash 0:5.1.8-6.el9", "gpg-pubkey 0:fd431d51-4ae0493b", "npm 1:8.19.4-1.16.20.2.8.el9", "perl 4:5.32.1-481.el9", "perl-Errno 0:1.30-481.el9"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q, %v", got, want, err)
	}
}
