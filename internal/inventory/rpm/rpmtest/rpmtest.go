// Package rpmtest writes RPM databases for tests, in each of the three forms.
package rpmtest

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	_ "modernc.org/sqlite" // the driver that writes rpmdb.sqlite
)

// Package is what a header says.
type Package struct {
	Name, Version, Release, Arch, Source, License, Module string
	Epoch                                                 uint32
	Files                                                 []string // absolute
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

// Hash is Packages, a Berkeley DB hash: one bucket a package, its header in
// overflow pages as RPM's are, or in the page when it is short.
func Hash(order binary.AppendByteOrder, packages ...Package) []byte {
	const page, head = 4096, 26
	put32 := func(b []byte, v uint32) { copy(b, order.AppendUint32(nil, v)) }
	put16 := func(b []byte, v int) { copy(b, order.AppendUint16(nil, uint16(v))) }
	out := make([]byte, page)
	put32(out[12:], 0x061561)
	put32(out[20:], page)
	out[25] = 8
	add := func(kind byte) []byte {
		out = append(out, make([]byte, page)...)
		p := out[len(out)-page:]
		put32(p[8:], uint32(len(out)/page-1))
		p[25] = kind
		return p
	}
	pair := func(key uint32, value []byte) {
		p := add(13)
		put16(p[20:], 2)
		k := page - 5
		p[k] = 1
		put32(p[k+1:], key)
		v := k - len(value)
		copy(p[v:], value)
		put16(p[head:], k)
		put16(p[head+2:], v)
	}
	pair(0, append([]byte{1}, order.AppendUint32(nil, uint32(len(packages)))...))
	for i, p := range packages {
		header := p.Header()
		if len(header) < 1024 {
			pair(uint32(i+1), append([]byte{1}, header...))
			continue
		}
		first := uint32(len(out)/page) + 1
		value := append([]byte{3, 0, 0, 0}, order.AppendUint32(nil, first)...)
		pair(uint32(i+1), order.AppendUint32(value, uint32(len(header))))
		for len(header) > 0 {
			o := add(7)
			n := copy(o[head:], header)
			header = header[n:]
			put16(o[22:], n)
			if len(header) > 0 {
				put32(o[16:], uint32(len(out)/page))
			}
		}
	}
	put32(out[32:], uint32(len(out)/page-1))
	return out
}
