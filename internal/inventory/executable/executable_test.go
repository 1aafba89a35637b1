package executable_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/executable"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
)

var known = sync.OnceValue(program.Embedded)

func driver() executable.Driver { return executable.New(known) }

// elf is the least file of 64 bits with code, read-only data and, when audit is
// given, a section .dep-v0.
func elf(texts string, size int, audit []byte) []byte {
	const code, headers = 4096, 64
	data := make([]byte, max(size, code+len(texts)))
	copy(data, "\x7fELF\x02\x01\x01")
	copy(data[code:], texts)
	le := binary.LittleEndian
	le.PutUint64(data[32:], headers)
	le.PutUint16(data[54:], 56)
	le.PutUint16(data[56:], 2)
	for i, p := range [][3]uint64{{5, 0, code}, {4, code, uint64(len(data) - code)}} {
		h := data[headers+56*i:]
		le.PutUint32(h, 1)
		le.PutUint32(h[4:], uint32(p[0]))
		le.PutUint64(h[8:], p[1])
		le.PutUint64(h[32:], p[2])
	}
	if audit == nil {
		return data
	}
	names := "\x00.shstrtab\x00.dep-v0\x00"
	auditAt := len(data)
	data = append(data, audit...)
	namesAt := len(data)
	data = append(data, names...)
	sections := len(data)
	for _, s := range [][3]int{{0, 0, 0}, {1, namesAt, len(names)}, {11, auditAt, len(audit)}} {
		var h [64]byte
		le.PutUint32(h[:], uint32(s[0]))
		le.PutUint64(h[24:], uint64(s[1]))
		le.PutUint64(h[32:], uint64(s[2]))
		data = append(data, h[:]...)
	}
	le.PutUint64(data[40:], uint64(sections))
	le.PutUint16(data[58:], 64)
	le.PutUint16(data[60:], 3)
	le.PutUint16(data[62:], 1)
	return data
}

func audit(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	fmt.Fprint(w, `{"packages":[{"name":"regex","version":"1.5.4","source":"crates.io"},{"name":"cc","version":"1.0.0","kind":"build"}]}`)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const nginx = "\x00nginx version: nginx/1.25.3\x00"

// extract reads the file as a stream and at offsets, which must agree.
func extract(t *testing.T, path string, data []byte) []string {
	t.Helper()
	var got [2][]string
	for i, content := range []io.Reader{struct{ io.Reader }{bytes.NewReader(data)}, bytes.NewReader(data)} {
		f := inventory.File{Path: path, Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: content}
		packages, err := driver().Extract(f)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, p := range packages {
			got[i] = append(got[i], p.PURL)
		}
	}
	if !slices.Equal(got[0], got[1]) {
		t.Errorf("%s: as a stream %q, at offsets %q", path, got[0], got[1])
	}
	return got[1]
}

func TestConformance(t *testing.T) {
	inventorytest.Run(t, driver(), []inventorytest.Case{
		{Path: "usr/sbin/nginx", Executable: true, Content: elf(strings.Repeat("x", 10_000)+nginx, 0, nil), Want: []string{"nginx 1.25.3"}},
		{Path: "usr/lib/libz.so.1", Executable: true, Content: elf(" deflate 1.2.13 Copyright 1995-2022 Jean-loup Gailly and Mark Adler ", 9000, nil), Want: []string{"zlib 1.2.13"}},
		{Path: "app/tool", Executable: true, Content: elf("", 300<<10, audit(t)), Want: []string{"regex 1.5.4"}},
		{Path: "usr/bin/python3.11", Executable: true, Content: elf("#!/bin/sh", 9000, nil)},
	}, []string{"usr/sbin/nginx", "app/tool", "etc/nginx/nginx.conf", "usr/lib/libother.so.1"})
}

func TestEvidenceAnywhere(t *testing.T) {
	for at := 125_000; at < 135_000; at += 37 { // over the end of a window
		data := elf(strings.Repeat("\x00", at)+nginx, 200_000, nil)
		if got := extract(t, "nginx", data); !slices.Equal(got, []string{"pkg:generic/nginx@1.25.3"}) {
			t.Fatalf("at %d: %q", at, got)
		}
	}
	for at := 260_000; at < 270_000; at += 211 {
		if got := extract(t, "tool", elf("", at, audit(t))); !slices.Equal(got, []string{"pkg:cargo/regex@1.5.4"}) {
			t.Fatalf("audit data at %d: %q", at, got)
		}
	}
}

func TestTraces(t *testing.T) {
	const place = "/root/.cargo/registry/src/index.crates.io-6f17d22bba15001f/regex-1.5.4/src/lib.rs"
	for at := 125_000; at < 135_000; at += 211 {
		if got := extract(t, "tool", elf(strings.Repeat("\x00", at)+place, 300<<10, nil)); !slices.Equal(got, []string{"pkg:cargo/regex@1.5.4"}) {
			t.Fatalf("at %d: %q", at, got)
		}
	}
	if got := extract(t, "tool", elf(strings.Replace(place, "regex", "other", 1), 300<<10, audit(t))); !slices.Equal(got, []string{"pkg:cargo/regex@1.5.4"}) {
		t.Errorf("beside audit data: %q", got)
	}
}

func TestBothInOne(t *testing.T) {
	got := extract(t, "usr/bin/deno", elf("e518fbdDeno/2.9.6+e518fbd", 300<<10, audit(t)))
	if !slices.Equal(got, []string{"pkg:cargo/regex@1.5.4", "pkg:generic/deno@2.9.6"}) {
		t.Errorf("got %q", got)
	}
}

func TestNamedButNoProgram(t *testing.T) {
	if got := extract(t, "usr/bin/nginx", []byte("#!/bin/sh\n"+strings.Repeat(nginx, 1000))); got != nil {
		t.Errorf("a script is %q", got)
	}
}

func FuzzExtract(f *testing.F) {
	inventorytest.Fuzz(f, driver(), "usr/sbin/nginx", string(elf(nginx, 5000, nil)), string(elf("", 5000, audit(f))))
}

func BenchmarkNamedProgram(b *testing.B) {
	data := elf(strings.Repeat("usual text in a program 1.2.3\x00", 1_000_000)+nginx, 0, nil)
	d := driver()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f := inventory.File{Path: "nginx", Info: inventory.Info{Size: int64(len(data)), Executable: true}, Content: bytes.NewReader(data)}
		if p, err := d.Extract(f); err != nil || len(p) != 1 {
			b.Fatal(p, err)
		}
	}
}
