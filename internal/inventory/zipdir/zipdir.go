// Package zipdir reads the directory of a zip archive one entry at a time and
// the few entries that are wanted, so that an archive of 100,000 entries costs
// no memory for those nobody asks about. The format is APPNOTE.TXT of PKWARE;
// multi-part and encrypted archives are not read.
package zipdir

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/breakwater-sec/breakwater/internal/inventory"
)

// MaxBuffered is the largest archive that is taken into memory where its
// source cannot be read at offsets, in bytes.
const MaxBuffered = 64 << 20

const (
	maxEntries  = 1 << 20
	endLength   = 22
	maxComment  = 1<<16 - 1
	entryLength = 46
	localLength = 30
)

// Errors of Open and of the methods of Dir.
var (
	ErrNotZip    = errors.New("is not a zip archive")
	errDamaged   = errors.New("is a damaged zip archive")
	errEncrypted = errors.New("is encrypted or compressed in a way that is not read")
)

// Dir is an archive's directory.
type Dir struct {
	at            io.ReaderAt
	base          int64 // where the archive begins: programs may stand before it
	offset, size  int64 // of the directory
	entries, left int64 // inflated bytes that may still be read
}

// Entry is one file of an archive.
type Entry struct {
	Name          string
	Size          int64 // uncompressed, as the directory says
	stored        bool
	packed, local int64
	unreadable    bool
}

// Content makes a file readable at offsets: as it is where its source can, else
// from memory.
func Content(f inventory.File) (io.ReaderAt, error) {
	if at, ok := f.Content.(io.ReaderAt); ok {
		return at, nil
	}
	if f.Size > MaxBuffered {
		return nil, fmt.Errorf("%w: archives of more than %d bytes are only read where their layer is not compressed", inventory.ErrTooLarge, MaxBuffered)
	}
	data, err := inventory.ReadAll(f, MaxBuffered)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

// Open finds the directory of an archive of size bytes. Read will inflate at
// most budget bytes in all.
func Open(at io.ReaderAt, size, budget int64) (*Dir, error) {
	tail := make([]byte, min(size, endLength+maxComment))
	if n, err := at.ReadAt(tail, size-int64(len(tail))); n < len(tail) && err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	i := endRecord(tail)
	if i < 0 {
		return nil, ErrNotZip
	}
	end := size - int64(len(tail)) + int64(i)
	le := binary.LittleEndian
	d := &Dir{at: at, entries: int64(le.Uint16(tail[i+10:])), size: int64(le.Uint32(tail[i+12:])), offset: int64(le.Uint32(tail[i+16:])), left: budget}
	if d.entries == math.MaxUint16 || d.size == math.MaxUint32 || d.offset == math.MaxUint32 {
		if err := d.wide(&end); err != nil {
			return nil, err
		}
	}
	if d.base = end - d.size - d.offset; d.size < 0 || d.offset < 0 || d.base < 0 {
		return nil, errDamaged
	}
	return d, nil
}

// endRecord is the place of the last end record whose comment fits, or -1.
func endRecord(tail []byte) int {
	for i := len(tail) - endLength; i >= 0; i-- {
		if string(tail[i:i+4]) == "PK\x05\x06" && i+endLength+int(binary.LittleEndian.Uint16(tail[i+20:])) <= len(tail) {
			return i
		}
	}
	return -1
}

// wide reads the Zip64 end record, which stands before the other.
func (d *Dir) wide(end *int64) error {
	var locator [20]byte
	var record [56]byte
	le := binary.LittleEndian
	if *end < 20 {
		return nil // just 65,535 entries
	}
	if _, err := d.at.ReadAt(locator[:], *end-20); err != nil {
		return errDamaged
	}
	if string(locator[:4]) != "PK\x06\x07" {
		return nil
	}
	at := int64(le.Uint64(locator[8:]))
	if at < 0 || at > *end-76 {
		return errDamaged
	}
	if _, err := d.at.ReadAt(record[:], at); err != nil || string(record[:4]) != "PK\x06\x06" {
		return errDamaged
	}
	d.entries, d.size, d.offset = int64(le.Uint64(record[32:])), int64(le.Uint64(record[40:])), int64(le.Uint64(record[48:]))
	*end = at
	if d.size < 0 || d.offset < 0 || d.size > at || d.offset > at {
		return errDamaged
	}
	return nil
}

// Each calls visit for every entry whose name wanted accepts. The name given
// to wanted is valid for that call only.
func (d *Dir) Each(wanted func(name []byte) bool, visit func(Entry) error) error {
	if d.entries > maxEntries {
		return fmt.Errorf("%w: its directory has %d entries, %d are read at most", inventory.ErrTooLarge, d.entries, maxEntries)
	}
	br := bufio.NewReaderSize(io.NewSectionReader(d.at, d.base+d.offset, d.size), int(min(d.size, 128<<10)))
	for range d.entries {
		head, err := br.Peek(entryLength)
		if err != nil || string(head[:4]) != "PK\x01\x02" {
			return errDamaged
		}
		le := binary.LittleEndian
		name, extra, comment := int(le.Uint16(head[28:])), int(le.Uint16(head[30:])), int(le.Uint16(head[32:]))
		// Peek again, whole: head is invalid then. The three lengths are below 64 KiB each.
		if name > 4096 {
			if _, err := br.Discard(entryLength + name + extra + comment); err != nil {
				return errDamaged
			}
			continue
		}
		record, err := br.Peek(entryLength + name + extra)
		if err != nil {
			return errDamaged
		}
		if raw := record[entryLength : entryLength+name]; wanted(raw) {
			if err := visit(parse(record, name)); err != nil {
				return err
			}
		}
		if _, err := br.Discard(entryLength + name + extra + comment); err != nil {
			return errDamaged
		}
	}
	return nil
}

func parse(record []byte, name int) Entry {
	le := binary.LittleEndian
	flags, method := le.Uint16(record[8:]), le.Uint16(record[10:])
	e := Entry{
		Name: string(record[entryLength : entryLength+name]), stored: method == 0,
		packed: int64(le.Uint32(record[20:])), Size: int64(le.Uint32(record[24:])), local: int64(le.Uint32(record[42:])),
		unreadable: flags&1 != 0 || method != 0 && method != 8,
	}
	e.widen(record[entryLength+name:])
	return e
}

// widen takes sizes of 64 bits from the extra field.
func (e *Entry) widen(extra []byte) {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if extra = extra[4:]; n > len(extra) {
			return
		}
		field := extra[:n]
		extra = extra[n:]
		if id != 1 {
			continue
		}
		for _, v := range []*int64{&e.Size, &e.packed, &e.local} {
			if *v == math.MaxUint32 && len(field) >= 8 {
				*v, field = int64(le.Uint64(field)), field[8:]
			}
		}
	}
}

// data is where the packed bytes of an entry are.
func (d *Dir) data(e Entry) (*io.SectionReader, error) {
	var local [localLength]byte
	if e.unreadable {
		return nil, errEncrypted
	}
	if e.local < 0 || e.packed < 0 || e.Size < 0 || e.local > d.offset {
		return nil, errDamaged
	}
	if _, err := d.at.ReadAt(local[:], d.base+e.local); err != nil || string(local[:4]) != "PK\x03\x04" {
		return nil, errDamaged
	}
	start := e.local + localLength + int64(binary.LittleEndian.Uint16(local[26:])) + int64(binary.LittleEndian.Uint16(local[28:]))
	if start+e.packed > d.offset {
		return nil, errDamaged
	}
	return io.NewSectionReader(d.at, d.base+start, e.packed), nil
}

// Read inflates an entry of at most limit bytes.
func (d *Dir) Read(e Entry, limit int64) ([]byte, error) {
	r, err := d.data(e)
	if err != nil {
		return nil, err
	}
	if limit = min(limit, d.left); e.Size > limit {
		return nil, fmt.Errorf("%w: %d bytes, %d are read at most", inventory.ErrTooLarge, e.Size, limit)
	}
	var in io.Reader = r
	if !e.stored {
		in = flate.NewReader(r)
	}
	var out bytes.Buffer // grows with what is there, not with what the directory claims
	n, err := io.Copy(&out, io.LimitReader(in, e.Size+1))
	d.left -= n
	if err != nil || n != e.Size {
		return nil, errDamaged
	}
	return out.Bytes(), nil
}

// Nested opens an archive inside this one, with what is left of its budget: in
// place if it is stored, else inflated to at most limit bytes of memory.
func (d *Dir) Nested(e Entry, limit int64) (*Dir, error) {
	if e.stored {
		r, err := d.data(e)
		if err != nil {
			return nil, err
		}
		return Open(r, r.Size(), d.left)
	}
	data, err := d.Read(e, limit)
	if err != nil {
		return nil, err
	}
	return Open(bytes.NewReader(data), int64(len(data)), d.left)
}

// Spent takes from the budget what reading a nested archive used.
func (d *Dir) Spent(nested *Dir) { d.left = min(d.left, nested.left) }
