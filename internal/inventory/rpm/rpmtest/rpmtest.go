// Package rpmtest writes RPM databases for tests, in each of the three forms.
package rpmtest

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver that writes rpmdb.sqlite
)

// Package is what a header says.
type Package struct {
	Name, Version, Release, Arch, Source, License, Module, Vendor string
	Epoch                                                         uint32
	Files                                                         []string // absolute
}

// describe makes a description of the usual length, which no short header has.
func (p Package) describe() string {
	return strings.Repeat("What "+p.Name+" is for, in a paragraph of the usual length. ", 20) + "\x00"
}

// Header is the package's header as RPM's databases hold it.
func (p Package) Header() []byte {
	type entry struct {
		tag, kind, offset, count uint32
	}
	var index []entry
	var store []byte
	add := func(tag, kind uint32, count int, data []byte) {
		for kind == 4 && len(store)%4 != 0 {
			store = append(store, 0)
		}
		index = append(index, entry{tag, kind, uint32(len(store)), uint32(count)})
		store = append(store, data...)
	}
	text := func(tag uint32, s string) {
		if s != "" {
			add(tag, 6, 1, append([]byte(s), 0))
		}
	}
	text(1000, p.Name)
	text(1001, p.Version)
	text(1002, p.Release)
	if p.Epoch > 0 {
		add(1003, 4, 1, binary.BigEndian.AppendUint32(nil, p.Epoch))
	}
	if p.Arch != "" { // public keys have none
		add(1005, 9, 1, []byte(p.describe()))
	}
	text(1011, p.Vendor)
	text(1014, p.License)
	text(1022, p.Arch)
	text(1044, p.Source)
	var dirs []string
	var places, bases, folders []byte
	for _, f := range p.Files {
		dir, base := filepath.Split(f)
		at := slices.Index(dirs, dir)
		if at < 0 {
			at, dirs = len(dirs), append(dirs, dir)
		}
		places = binary.BigEndian.AppendUint32(places, uint32(at))
		bases = append(append(bases, base...), 0)
	}
	for _, d := range dirs {
		folders = append(append(folders, d...), 0)
	}
	if len(p.Files) > 0 {
		add(1116, 4, len(p.Files), places)
		add(1117, 8, len(p.Files), bases)
		add(1118, 8, len(dirs), folders)
	}
	text(5096, p.Module)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(index)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(store)))
	for _, e := range index {
		for _, n := range []uint32{e.tag, e.kind, e.offset, e.count} {
			out = binary.BigEndian.AppendUint32(out, n)
		}
	}
	return append(out, store...)
}

// SQLite is rpmdb.sqlite.
func SQLite(t testing.TB, packages ...Package) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		"CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)",
		"CREATE TABLE 'Name' (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO Packages (blob) VALUES (?)", p.Header()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// NDB is Packages.db.
func NDB(packages ...Package) []byte {
	const page, block = 4096, 16
	le := binary.LittleEndian
	pages := (2+len(packages))*16/page + 1
	out := make([]byte, pages*page)
	copy(out, "RpmP")
	le.PutUint32(out[8:], 1)
	le.PutUint32(out[12:], uint32(pages))
	le.PutUint32(out[16:], uint32(len(packages)+1))
	for at := 32; at < len(out); at += 16 {
		copy(out[at:], "Slot")
	}
	for i, p := range packages {
		header := p.Header()
		slot := out[32+16*i:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(out)/block))
		start := len(out)
		out = append(out, "BlbS"...)
		for _, n := range []uint32{uint32(i + 1), 1, uint32(len(header))} {
			out = le.AppendUint32(out, n)
		}
		out = append(out, header...)
		for (len(out)+12)%block != 0 {
			out = append(out, 0)
		}
		out = le.AppendUint32(out, 0) // a checksum that readers of packages do not look at
		out = le.AppendUint32(out, uint32(len(header)))
		out = append(out, "BlbE"...)
		le.PutUint32(out[32+16*i+12:], uint32((len(out)-start)/block))
	}
	return out
}

// Hash is Packages, a Berkeley DB hash (version 9, as RPM 4.8 to 4.15 wrote it):
// one bucket a package, its header in overflow pages when it is longer than a
// quarter of a page, or in the bucket's.
func Hash(order binary.AppendByteOrder, packages ...Package) []byte {
	h := hash{order: order}
	counter := append([]byte{inPage}, order.AppendUint32(nil, uint32(len(packages)))...)
	h.buckets = append(h.buckets, counter)
	for _, p := range packages {
		h.buckets = append(h.buckets, h.value(p.Header(), uint32(len(packages)+2)))
	}
	var out []byte
	out = append(out, h.meta()...)
	for key, value := range h.buckets {
		out = append(out, h.bucket(uint32(key), value)...)
	}
	return append(out, h.overflow...)
}

// What Berkeley DB's dbinc/db_page.h lays out.
const (
	hashPage = 4096
	hashHead = 26
	inPage   = 1
	offPage  = 3
)

type hash struct {
	order    binary.AppendByteOrder
	buckets  [][]byte // the value of each, as it lies in the page
	overflow []byte   // pages behind those of the buckets
}

func (h *hash) put32(b []byte, v uint32) { copy(b, h.order.AppendUint32(nil, v)) }
func (h *hash) put16(b []byte, v int)    { copy(b, h.order.AppendUint16(nil, uint16(v))) }

// value lays a header down; first is the number of the first overflow page.
func (h *hash) value(header []byte, first uint32) []byte {
	if len(header) <= hashPage/4 {
		return append([]byte{inPage}, header...)
	}
	begin := first + uint32(len(h.overflow)/hashPage)
	item := h.order.AppendUint32([]byte{offPage, 0, 0, 0}, begin)
	item = h.order.AppendUint32(item, uint32(len(header)))
	for at := begin; len(header) > 0; at++ {
		page := make([]byte, hashPage)
		h.put32(page[8:], at)
		page[25] = 7 // overflow
		n := copy(page[hashHead:], header)
		header = header[n:]
		h.put16(page[20:], 1) // references
		h.put16(page[22:], n)
		if at > begin {
			h.put32(page[12:], at-1)
		}
		if len(header) > 0 {
			h.put32(page[16:], at+1)
		}
		h.overflow = append(h.overflow, page...)
	}
	return item
}

func (h *hash) meta() []byte {
	page := make([]byte, hashPage)
	last := len(h.buckets) + len(h.overflow)/hashPage
	high := uint32(1)<<bits.Len(uint(len(h.buckets)-1)) - 1
	for at, v := range map[int]uint32{
		12: 0x061561, 16: 9, 20: hashPage, 32: uint32(last), 40: uint32(len(h.buckets)), 44: uint32(len(h.buckets)),
		72: uint32(len(h.buckets) - 1), 76: high, 80: high >> 1, 84: 1, 88: uint32(len(h.buckets)),
	} {
		h.put32(page[at:], v)
	}
	page[25] = 8                      // hash metadata
	for at := 96; at < 224; at += 4 { // bucket n lies on page n+1
		h.put32(page[at:], 1)
	}
	return page
}

func (h *hash) bucket(key uint32, value []byte) []byte {
	page := make([]byte, hashPage)
	h.put32(page[8:], key+1)
	page[25] = 13 // sorted hash page
	h.put16(page[20:], 2)
	k := hashPage - 5
	page[k] = inPage
	h.put32(page[k+1:], key)
	v := k - len(value)
	copy(page[v:], value)
	h.put16(page[hashHead:], k)
	h.put16(page[hashHead+2:], v)
	h.put16(page[22:], v) // where items begin
	return page
}
