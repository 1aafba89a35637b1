package gobinary_test

import (
	"bytes"
	"debug/buildinfo"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/gobinary"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

// build makes a Go program with a main module and a replaced dependency.
func build(t testing.TB, flags string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"go.mod":     "module example.org/tool\n\ngo 1.26\n\nrequire example.org/dep v1.2.3\n\nreplace example.org/dep => ./dep\n",
		"main.go":    "package main\n\nimport \"example.org/dep\"\n\nfunc main() { println(dep.Name) }\n",
		"dep/go.mod": "module example.org/dep\n\ngo 1.26\n",
		"dep/dep.go": "package dep\n\nvar Name = \"dep\"\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "tool")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w -buildid= "+flags, "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bigEndian32 is the least ELF file that carries build information, in the
// other byte order and word size.
func bigEndian32() []byte {
	data := make([]byte, 300<<10)
	copy(data, "\x7fELF\x01\x02")
	put32 := binary.BigEndian.PutUint32
	put32(data[28:], 52)                      // e_phoff
	binary.BigEndian.PutUint16(data[42:], 32) // e_phentsize
	binary.BigEndian.PutUint16(data[44:], 2)  // e_phnum
	for i, flags := range []uint32{5, 6} {    // code, then data
		ph := data[52+32*i:]
		put32(ph, 1) // PT_LOAD
		put32(ph[4:], uint32(i)*(100<<10))
		put32(ph[16:], 100<<10)
		put32(ph[24:], flags)
	}
	text := strings.Repeat("m", 16) + "path\texample.org/a\nmod\texample.org/a\tv1.0.0\t\n" + strings.Repeat("m", 16)
	info := append([]byte("\xff Go buildinf:\x04\x03"), make([]byte, 16)...)
	info = append(binary.AppendUvarint(info, 8), "go1.26.3"...)
	info = append(binary.AppendUvarint(info, uint64(len(text))), text...)
	copy(data[100<<10+70_000/16*16:], info) // beyond the first window
	return data
}

func goVersion() string { return strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go") }

// TestUnalignedSegment: the data segment of a program that an external linker
// made begins anywhere.
func TestUnalignedSegment(t *testing.T) {
	data := bigEndian32()
	binary.BigEndian.PutUint32(data[52+32+4:], 100<<10-8)
	for name, content := range map[string]io.Reader{"stream": struct{ io.Reader }{bytes.NewReader(data)}, "offsets": bytes.NewReader(data)} {
		f := inventory.File{Path: "a", Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: content}
		if packages, err := (gobinary.Driver{}).Extract(f); err != nil || len(packages) != 2 {
			t.Errorf("by %s: %v, %v", name, packages, err)
		}
	}
}

func TestConformance(t *testing.T) {
	want := []string{"stdlib " + goVersion(), "example.org/dep v1.2.3"}
	inventorytest.Run(t, gobinary.Driver{}, []inventorytest.Case{
		{Path: "usr/bin/amd64", Executable: true, Content: build(t, ""), Want: want},
		{Path: "usr/bin/big-endian-32", Executable: true, Content: bigEndian32(), Want: []string{"stdlib 1.26.3", "example.org/a v1.0.0"}},
		{Path: "usr/bin/script", Executable: true, Content: bytes.Repeat([]byte("#!/bin/sh\n"), 50_000)},
	}, []string{"usr/bin/amd64"})
}

// TestAgreesWithStandardLibrary compares with debug/buildinfo over programs of
// this machine: Go ones, this test itself among them, and others.
func TestAgreesWithStandardLibrary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := []string{self, "/bin/sh"}
	if path, err := exec.LookPath("go"); err == nil {
		programs = append(programs, path)
	}
	for _, path := range programs {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		want := 0
		if info, err := buildinfo.ReadFile(path); err == nil {
			want = len(info.Deps) + 1
			if info.Main.Path != "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
				want++
			}
		}
		for name, content := range map[string]io.Reader{"stream": struct{ io.Reader }{bytes.NewReader(data)}, "offsets": bytes.NewReader(data)} {
			f := inventory.File{Path: path, Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: content}
			packages, err := gobinary.Driver{}.Extract(f)
			if err != nil || len(packages) != want {
				t.Errorf("%s by %s: %d packages, want %d; %v", path, name, len(packages), want, err)
			}
		}
	}
}

// TestVersionOfTheMainModule: one that was built in its working tree has the
// version that the linker wrote into it, if any.
func TestVersionOfTheMainModule(t *testing.T) {
	for flags, want := range map[string]string{
		"-X main.version=1.4.0": "v1.4.0",
		"-X main.version=v1.4.0 -X 'example.org/tool/internal.Version=1.4.0'": "v1.4.0",
		"-X main.version=v1.4.0 -X main.Release=v2.0.0":                       "",
		"-X main.version=1.4":                     "",
		"-X main.goVersion=1.26.0":                "",
		"-X example.org/other.Version=1.0.0":      "",
		"-X main.version=dirty -X main.commit=ab": "",
	} {
		data := build(t, flags)
		f := inventory.File{Path: "a", Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: bytes.NewReader(data)}
		packages, err := gobinary.Driver{}.Extract(f)
		got := ""
		for _, p := range packages {
			if p.Name == "example.org/tool" {
				got = p.Version
			}
		}
		if err != nil || got != want {
			t.Errorf("%s: got %q, want %q; %v", flags, got, want, err)
		}
	}
}

func TestOldFormatIsAGapInAStream(t *testing.T) {
	data := build(t, "")
	i := bytes.LastIndex(data, []byte("\xff Go buildinf:"))
	data[i+15] &^= 2 // as if it held pointers
	f := inventory.File{Path: "a", Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: struct{ io.Reader }{bytes.NewReader(data)}}
	if packages, err := (gobinary.Driver{}).Extract(f); err == nil || len(packages) > 0 {
		t.Errorf("got %v, %v", packages, err)
	}
}

func FuzzExtract(f *testing.F) {
	head := build(f, "")[:4096]
	f.Add(head)
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, content := range []io.Reader{struct{ io.Reader }{bytes.NewReader(data)}, bytes.NewReader(data)} {
			_, _ = gobinary.Driver{}.Extract(inventory.File{Path: "a", Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: content})
		}
	})
}
