package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// The reader of SQLite files knows what one table scan needs: the schema page,
// table b-trees and overflow pages, as https://sqlite.org/fileformat2.html
// describes them.

const (
	sqliteMagic    = "SQLite format 3\x00"
	maxDepth       = 30
	leafPage       = 13
	interiorPage   = 5
	packagesTable  = "packages"
	sqliteHeadSize = 100
)

var errNotSQLite = errors.New("is not an SQLite database")

type sqlite struct {
	*file
	page   int64 // bytes
	usable int64 // bytes of a page that hold content
	seen   map[uint32]bool
}

// sqlite calls each with the second column of every row of the table Packages.
func (f *file) sqlite(each func([]byte) error) error {
	head, err := f.bytes(0, sqliteHeadSize)
	if err != nil || !bytes.HasPrefix(head, []byte(sqliteMagic)) {
		return errNotSQLite
	}
	s := sqlite{file: f, page: int64(binary.BigEndian.Uint16(head[16:])), seen: map[uint32]bool{}}
	if s.page == 1 {
		s.page = 65536
	}
	s.usable = s.page - int64(head[20])
	if s.page < 512 || s.page&(s.page-1) != 0 || s.usable < 480 {
		return errDamaged
	}
	var root int64
	err = s.walk(1, 0, func(row []byte) error {
		if columns := record(row, 4); len(columns) == 4 && strings.EqualFold(string(columns[1].data), packagesTable) && string(columns[0].data) == "table" {
			root = columns[3].number()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root <= 0 || root > 1<<31 {
		return errors.New("has no table of packages")
	}
	s.seen = map[uint32]bool{}
	return s.walk(uint32(root), 0, func(row []byte) error {
		columns := record(row, 2)
		if len(columns) < 2 {
			return errDamaged
		}
		return each(columns[1].data)
	})
}

// walk visits the rows of a table's b-tree.
func (s *sqlite) walk(number uint32, depth int, row func([]byte) error) error {
	if depth > maxDepth || number == 0 || s.seen[number] {
		return errDamaged // deeper than any tree, or a circle
	}
	s.seen[number] = true
	page, err := s.bytes((int64(number)-1)*s.page, s.page)
	if err != nil {
		return err
	}
	head := page
	if number == 1 {
		head = page[sqliteHeadSize:]
	}
	cells := int(binary.BigEndian.Uint16(head[3:]))
	switch head[0] {
	case leafPage:
		return s.leaf(page, head[8:], cells, row)
	case interiorPage:
		if err := s.interior(page, head[12:], cells, depth, row); err != nil {
			return err
		}
		return s.walk(binary.BigEndian.Uint32(head[8:]), depth+1, row)
	}
	return errDamaged
}

func (s *sqlite) interior(page, pointers []byte, cells, depth int, row func([]byte) error) error {
	for i := range cells {
		at, ok := pointer(page, pointers, i)
		if !ok || at+4 > len(page) {
			return errDamaged
		}
		if err := s.walk(binary.BigEndian.Uint32(page[at:]), depth+1, row); err != nil {
			return err
		}
	}
	return nil
}

func pointer(page, pointers []byte, i int) (at int, ok bool) {
	if 2*i+2 > len(pointers) {
		return 0, false
	}
	at = int(binary.BigEndian.Uint16(pointers[2*i:]))
	return at, at < len(page)
}

func (s *sqlite) leaf(page, pointers []byte, cells int, row func([]byte) error) error {
	for i := range cells {
		at, ok := pointer(page, pointers, i)
		if !ok {
			return errDamaged
		}
		content, err := s.payload(page[:s.usable], at)
		if err != nil {
			return err
		}
		if err := row(content); err != nil {
			return err
		}
	}
	return nil
}

// payload puts a cell's content together: the part in the page and the chain of
// overflow pages.
func (s *sqlite) payload(page []byte, at int) ([]byte, error) {
	if at >= len(page) {
		return nil, errDamaged
	}
	size, n := varint(page[at:])
	_, m := varint(page[min(at+n, len(page)):])
	start := int64(at + n + m)
	if n == 0 || m == 0 || size < 0 || start > int64(len(page)) {
		return nil, errDamaged
	}
	if err := s.spend(size); err != nil {
		return nil, err
	}
	local := s.local(size)
	if start+local > int64(len(page)) {
		return nil, errDamaged
	}
	if local == size {
		return page[start : start+size], nil
	}
	if start+local+4 > int64(len(page)) || size > s.size {
		return nil, errDamaged
	}
	out := append(make([]byte, 0, size), page[start:start+local]...)
	next := binary.BigEndian.Uint32(page[start+local:])
	for int64(len(out)) < size {
		if next == 0 {
			return nil, errDamaged
		}
		overflow, err := s.bytes((int64(next)-1)*s.page, s.page)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(overflow)
		out = append(out, overflow[4:4+min(size-int64(len(out)), s.usable-4)]...)
	}
	return out, nil
}

// local is how much of a payload lies in its own page.
func (s *sqlite) local(size int64) int64 {
	most := s.usable - 35
	if size <= most {
		return size
	}
	least := (s.usable-12)*32/255 - 23
	if k := least + (size-least)%(s.usable-4); k <= most {
		return k
	}
	return least
}

// varint reads SQLite's big-endian integer of up to nine bytes; n is 0 when
// the data end before it.
func varint(b []byte) (v int64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | int64(b[i]), 9
		}
		v = v<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// column is one value of a record.
type column struct {
	integer bool
	data    []byte
}

func (c column) number() int64 {
	var v int64
	if !c.integer {
		return 0
	}
	for _, b := range c.data {
		v = v<<8 | int64(b)
	}
	return v
}

// record splits a record into its first columns, or fewer when it is damaged.
func record(row []byte, columns int) (out []column) {
	size, n := varint(row)
	if n == 0 || size < int64(n) || size > int64(len(row)) {
		return nil
	}
	kinds, body := row[n:size], row[size:]
	for range columns {
		kind, n := varint(kinds)
		if n == 0 {
			return out
		}
		kinds = kinds[n:]
		length := columnLength(kind)
		if length < 0 || length > int64(len(body)) {
			return out
		}
		out = append(out, column{integer: kind >= 1 && kind <= 6, data: body[:length]})
		body = body[length:]
	}
	return out
}

// columnLength is the bytes of a serial type, -1 for one that is reserved.
func columnLength(kind int64) int64 {
	switch {
	case kind < 0, kind == 10, kind == 11:
		return -1
	case kind >= 12:
		return (kind - 12) / 2
	}
	return [...]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[kind]
}
