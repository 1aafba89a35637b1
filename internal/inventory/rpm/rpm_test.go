package rpm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm/rpmtest"
)

// sample has short headers, and one long enough for several overflow pages.
func sample() []rpmtest.Package {
	long := rpmtest.Package{Name: "perl-Errno", Version: "1.30", Release: "481.el9", Arch: "x86_64", Source: "perl-5.32.1-481.el9.src.rpm", License: "GPL+ or Artistic"}
	for i := range 900 {
		long.Files = append(long.Files, fmt.Sprintf("/usr/lib64/perl5/part%d/file-%d.pm", i%7, i))
	}
	return []rpmtest.Package{
		{Name: "gpg-pubkey", Version: "fd431d51", Release: "4ae0493b"},
		{Name: "bash", Version: "5.1.8", Release: "6.el9", Arch: "x86_64", Source: "bash-5.1.8-6.el9.src.rpm", License: "GPLv3+", Files: []string{"/usr/bin/bash"}},
		long,
		{Name: "perl", Version: "5.32.1", Release: "481.el9", Epoch: 4, Arch: "x86_64", Source: "perl-5.32.1-481.el9.src.rpm"},
		{Name: "npm", Version: "8.19.4", Release: "1.16.20.2.8.el9", Epoch: 1, Arch: "x86_64", Source: "nodejs-16.20.2-8.el9.src.rpm",
			Module: "nodejs:16:9020020240301111035:rhel9", Files: []string{"/usr/lib/node_modules/npm/package.json"}},
	}
}

func databases(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"var/lib/rpm/rpmdb.sqlite":          rpmtest.SQLite(t, sample()...),
		"usr/lib/sysimage/rpm/rpmdb.sqlite": rpmtest.SQLite(t, sample()...),
		"var/lib/rpm/Packages":              rpmtest.Hash(binary.LittleEndian, sample()...),
		"usr/share/rpm/Packages":            rpmtest.Hash(binary.BigEndian, sample()...),
		"usr/lib/sysimage/rpm/Packages.db":  rpmtest.NDB(sample()...),
	}
}

func TestConformance(t *testing.T) {
	var cases []inventorytest.Case
	for path, content := range databases(t) {
		cases = append(cases, inventorytest.Case{Path: path, Content: content,
			Want: []string{"bash 5.1.8-6.el9", "perl-Errno 1.30-481.el9", "perl 4:5.32.1-481.el9", "npm 1:8.19.4-1.16.20.2.8.el9"}})
	}
	inventorytest.Run(t, rpm.Driver{}, cases, []string{"rpmdb.sqlite", "srv/var/lib/rpm/Packages", "var/lib/rpm/rpmdb.sqlite-shm", "var/lib/rpm/Packages.lock"})
}

func TestFields(t *testing.T) {
	for path, content := range databases(t) {
		files := map[string][]string{}
		packages, err := rpm.Driver{}.ExtractClaims(file(path, content), func(owner string, path []byte) {
			files[owner] = append(files[owner], string(path))
		})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		by := map[string]event.Package{}
		for _, p := range packages {
			by[p.Name] = p
		}
		if p := by["perl-Errno"]; p.Source != "perl" || p.SourceVersion != "4:5.32.1-481.el9" || p.Licenses[0] != "GPL+ or Artistic" {
			t.Errorf("%s: the source's epoch is not that of its own package: %+v", path, p)
		}
		if p := by["bash"]; p.Source != "" || p.SourceVersion != "" {
			t.Errorf("%s: a source that says nothing new is kept: %+v", path, p)
		}
		if p := by["npm"]; p.Source != "nodejs" || p.SourceVersion != "1:16.20.2-8.el9" || p.Module != "nodejs:16" {
			t.Errorf("%s: %+v", path, p)
		}
		if !slices.Equal(files["npm"], []string{"/usr/lib/node_modules/npm/package.json"}) || len(files["perl-Errno"]) != 900 || files["perl-Errno"][899] != "/usr/lib64/perl5/part3/file-899.pm" {
			t.Errorf("%s: files %v, %d", path, files["npm"], len(files["perl-Errno"]))
		}
	}
}

func file(path string, content []byte) inventory.File {
	return inventory.File{Path: path, Info: inventory.Info{Size: int64(len(content))}, Content: bytes.NewReader(content)}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		distro          inventory.Distro
		ecosystem, purl string
	}{
		{inventory.Distro{ID: "rhel", Version: "9.4"}, "Red Hat:9", "pkg:rpm/rhel/perl@5.32.1-481.el9?arch=x86_64&distro=rhel-9.4&epoch=4"},
		{inventory.Distro{ID: "rocky", Version: "9.4"}, "Rocky Linux:9", "pkg:rpm/rocky/perl@5.32.1-481.el9?arch=x86_64&distro=rocky-9.4&epoch=4"},
		{inventory.Distro{ID: "openeuler", Version: "24.03"}, "openeuler:24.03", "pkg:rpm/openeuler/perl@5.32.1-481.el9?arch=x86_64&distro=openeuler-24.03&epoch=4"},
		{inventory.Distro{}, "rpm", "pkg:rpm/perl@5.32.1-481.el9?arch=x86_64&epoch=4"},
	} {
		p := event.Package{Name: "perl", Version: "4:5.32.1-481.el9", Arch: "x86_64"}
		rpm.Driver{}.Place(&p, c.distro)
		if p.Ecosystem != c.ecosystem || p.PURL != c.purl {
			t.Errorf("%+v: %s, %s", c.distro, p.Ecosystem, p.PURL)
		}
	}
}

func TestALogThatWasNotFoldedInIsTold(t *testing.T) {
	f := file("var/lib/rpm/rpmdb.sqlite-wal", []byte("x"))
	if !(rpm.Driver{}).Wants(f.Path, f.Info) || (rpm.Driver{}).Wants(f.Path, inventory.Info{}) {
		t.Error("wants the wrong logs")
	}
	if _, err := (rpm.Driver{}).Extract(f); err == nil || !strings.Contains(err.Error(), "rpm --rebuilddb") {
		t.Errorf("error %v", err)
	}
}

// TestManyPackages makes b-trees of several levels.
func TestManyPackages(t *testing.T) {
	var packages []rpmtest.Package
	for i := range 3000 {
		p := rpmtest.Package{Name: fmt.Sprintf("p%d", i), Version: "1", Release: "1", Source: "s-1-1.src.rpm"}
		for j := range i % 40 {
			p.Files = append(p.Files, fmt.Sprintf("/usr/share/p%d/%d", i, j))
		}
		packages = append(packages, p)
	}
	for path, content := range map[string][]byte{
		"var/lib/rpm/rpmdb.sqlite": rpmtest.SQLite(t, packages...),
		"var/lib/rpm/Packages":     rpmtest.Hash(binary.LittleEndian, packages...),
		"var/lib/rpm/Packages.db":  rpmtest.NDB(packages...),
	} {
		got, err := rpm.Driver{}.Extract(file(path, content))
		if err != nil || len(got) != len(packages) {
			t.Errorf("%s: %d packages, %v", path, len(got), err)
		}
	}
}

// TestCircles: pages that lead back to themselves end.
func TestCircles(t *testing.T) {
	content := rpmtest.Hash(binary.LittleEndian, sample()...)
	for at := 4096; at < len(content); at += 4096 {
		if content[at+25] == 7 { // an overflow page that follows itself
			binary.LittleEndian.PutUint32(content[at+16:], uint32(at/4096))
		}
	}
	if _, err := (rpm.Driver{}).Extract(file("var/lib/rpm/Packages", content)); err == nil {
		t.Error("a circle of overflow pages gave no error")
	}
}

func FuzzDatabases(f *testing.F) {
	small := sample()[:2]
	f.Add(rpmtest.SQLite(f, small...))
	f.Add(rpmtest.Hash(binary.LittleEndian, small...))
	f.Add(rpmtest.Hash(binary.BigEndian, sample()...))
	f.Add(rpmtest.NDB(small...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, path := range []string{"var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages", "var/lib/rpm/Packages.db"} {
			packages, _ := rpm.Driver{}.Extract(file(path, data))
			for _, p := range packages {
				rpm.Driver{}.Place(&p, inventory.Distro{ID: "rhel", Version: "9"})
				if p.Name == "" || p.Version == "" || p.PURL == "" {
					t.Errorf("incomplete %+v", p)
				}
			}
		}
	})
}
