package zipdir

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/breakwater-sec/breakwater/internal/inventory"
)

// Stream reads an archive from front to back, for one that is too large to hold
// and cannot be read at offsets. visit gets each entry that wanted accepts, and
// read, which gives its content once, of at most limit bytes; at most budget
// bytes are inflated in all. It believes the headers before the entries, as
// there is no directory yet, and so does not read archives behind a program.
func Stream(r io.Reader, budget int64, wanted func(name []byte) bool, visit func(name string, read func(limit int64) ([]byte, error)) error) error {
	s := &streaming{br: bufio.NewReaderSize(r, 128<<10), left: budget}
	for first := true; ; first = false {
		head, err := s.br.Peek(localLength)
		switch {
		case len(head) < 4 && first, len(head) >= 4 && string(head[:4]) != "PK\x03\x04" && first:
			return ErrNotZip
		case len(head) >= 4 && (string(head[:4]) == "PK\x01\x02" || string(head[:4]) == "PK\x05\x06"):
			return nil // the directory
		case err != nil || string(head[:4]) != "PK\x03\x04":
			return errDamaged
		}
		if s.entries++; s.entries > maxEntries {
			return fmt.Errorf("%w: has more than %d entries", inventory.ErrTooLarge, maxEntries)
		}
		if err := s.entry(wanted, visit); err != nil {
			return err
		}
	}
}

type streaming struct {
	br      *bufio.Reader
	left    int64
	entries int
}

func (s *streaming) entry(wanted func([]byte) bool, visit func(string, func(int64) ([]byte, error)) error) error {
	head, err := s.br.Peek(localLength)
	if err != nil {
		return errDamaged
	}
	le := binary.LittleEndian
	name, extra := int(le.Uint16(head[26:])), int(le.Uint16(head[28:]))
	record, err := s.br.Peek(localLength + name + extra)
	if err != nil {
		return errDamaged
	}
	flags, method := le.Uint16(record[6:]), le.Uint16(record[8:])
	e := Entry{stored: method == 0, packed: int64(le.Uint32(record[18:])), Size: int64(le.Uint32(record[22:]))}
	e.widen(record[localLength+name:])
	raw := record[localLength : localLength+name]
	take := name <= 4096 && wanted(raw)
	e.Name = string(raw)
	if _, err := s.br.Discard(len(record)); err != nil {
		return errDamaged
	}
	later := flags&8 != 0 // sizes follow the content
	switch {
	case flags&1 != 0 || method != 0 && method != 8 || e.stored && later && e.packed == 0 || e.packed < 0 || e.packed > math.MaxInt64/2:
		return errEncrypted
	case !take && !later:
		return s.skip(e.packed)
	}
	return s.content(e, later, take, visit)
}

func (s *streaming) skip(n int64) error {
	if _, err := io.CopyN(io.Discard, s.br, n); err != nil {
		return errDamaged
	}
	return nil
}

// content gives the entry to visit and goes behind it.
func (s *streaming) content(e Entry, later, take bool, visit func(string, func(int64) ([]byte, error)) error) error {
	body := io.LimitReader(s.br, e.packed)
	if !e.stored {
		body = flate.NewReader(s.br) // takes no byte too many from what is buffered
	}
	counted := &countdown{body, &s.left}
	if take {
		err := visit(e.Name, func(limit int64) ([]byte, error) {
			data, err := io.ReadAll(io.LimitReader(counted, limit+1))
			if int64(len(data)) > limit {
				return nil, fmt.Errorf("%w: %d bytes are read at most", inventory.ErrTooLarge, limit)
			}
			return data, err
		})
		if err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		if errors.Is(err, inventory.ErrTooLarge) {
			return err
		}
		return errDamaged
	}
	if !later {
		return nil
	}
	return s.descriptor()
}

// descriptor passes over checksum and sizes, of 4 or 8 bytes each, with or
// without a signature before them.
func (s *streaming) descriptor() error {
	d, _ := s.br.Peek(4)
	if string(d) == "PK\x07\x08" {
		if err := s.skip(4); err != nil {
			return err
		}
	}
	if d, _ = s.br.Peek(14); len(d) == 14 && string(d[12:]) == "PK" {
		return s.skip(12)
	}
	return s.skip(20)
}

// countdown fails when the budget is used up.
type countdown struct {
	r    io.Reader
	left *int64
}

func (c *countdown) Read(p []byte) (int, error) {
	if *c.left <= 0 {
		return 0, fmt.Errorf("%w: no more of it is inflated", inventory.ErrTooLarge)
	}
	n, err := c.r.Read(p[:min(int64(len(p)), *c.left)])
	*c.left -= int64(n)
	return n, err
}
