package program_test

import (
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
)

func load(t testing.TB) *program.Table {
	t.Helper()
	data, err := fs.ReadFile(content.Programs(), "programs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	table, err := program.Parse("programs.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestExamples: every entry finds what its examples say, and so do no others.
func TestExamples(t *testing.T) {
	table := load(t)
	for _, p := range table.Programs() {
		positive := 0
		for _, e := range p.Examples {
			if e.Version != "" {
				positive++
			}
			if got := find(t, table, p, e); got != e.Version {
				t.Errorf("%s in %s %q: found %q, want %q", p.Name, e.File, e.Text, got, e.Version)
			}
		}
		if positive == 0 {
			t.Errorf("%s has no example that it finds", p.Name)
		}
	}
}

func find(t *testing.T, table *program.Table, p program.Program, e program.Example) (version string) {
	t.Helper()
	if p.Text {
		f := inventory.File{Path: e.File, Info: inventory.Info{Size: int64(len(e.Text))}, Content: strings.NewReader(e.Text)}
		packages, err := program.NewTexts(func() *program.Table { return table }).Extract(f)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		for _, found := range packages {
			if strings.Contains(found.PURL, "/"+p.Name+"@") {
				version = found.Version
			}
		}
		return version
	}
	s := table.Search(e.File)
	if named := table.Names(e.File); named != (s != nil) {
		t.Errorf("%s: named %v", e.File, named)
	}
	if s == nil {
		return ""
	}
	s.Window([]byte(strings.Repeat("\x00", 1000) + e.Text + strings.Repeat("\x00", 1000)))
	for _, found := range s.Packages() {
		if !strings.Contains(found.PURL, "/"+p.Name+"@") {
			t.Errorf("%s in %q is also %s", p.Name, e.Text, found.PURL)
			continue
		}
		version = found.Version
	}
	return version
}

func TestTexts(t *testing.T) {
	inventorytest.Run(t, program.NewTexts(sync.OnceValue(program.Embedded)), []inventorytest.Case{
		{Path: "opt/java/openjdk/release", Content: []byte("IMPLEMENTOR=\"X\"\nJAVA_VERSION=\"17.0.9\"\n"), Want: []string{"java 17.0.9"}},
		{Path: "var/www/wp-includes/version.php", Content: []byte("<?php\n$wp_version = '6.1.1';\n"), Want: []string{"wordpress 6.1.1"}},
		{Path: "etc/release", Content: []byte("Some Linux 3\n")},
	}, []string{"etc/os-release", "x/version.phps"})
}

func TestBadTables(t *testing.T) {
	const head = "apiVersion: breakwater/v1\nkind: Programs\nprograms:\n"
	for text, want := range map[string]string{
		head + "  - {name: a}\n": "files",
		head + "  - {name: a, files: ['*'], evidence: [{find: a, version: '(a)'}], examples: [{file: a, text: a, version: a}]}\n": "three letters",
		head + "  - {name: a, files: [abc], evidence: [{find: a, version: 'a'}], examples: [{file: a, text: a, version: a}]}\n":   "must have one",
		head + "  - {name: a, files: [abc], evidence: [{find: a, version: '(a'}], examples: [{file: a, text: a, version: a}]}\n":  "version",
		head + "  - {name: a, file: [abc]}\n": "file",
	} {
		if _, err := program.Parse("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzSearch(f *testing.F) {
	table := load(f)
	for _, p := range table.Programs() {
		for _, e := range p.Examples {
			f.Add(e.File, []byte(e.Text))
		}
	}
	f.Fuzz(func(t *testing.T, file string, data []byte) {
		if s := table.Search(file); s != nil {
			s.Window(data)
			for _, p := range s.Packages() {
				if p.Name == "" || p.Version == "" || p.PURL == "" {
					t.Errorf("incomplete %+v", p)
				}
			}
		}
	})
}
