package signature

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"
)

// The part of CBOR (RFC 8949) that COSE envelopes use: numbers, strings, lists,
// maps by numbers or texts, and tags, all of stated length.

const (
	maxCBORDepth = 8
	maxCBORItems = 10_000
)

var errCBOR = errors.New("is not the CBOR that is read: numbers, strings, lists and maps of stated length")

// cborMap holds values by int64 or string.
type cborMap map[any]any

// cborTag is a value with its tag.
type cborTag struct {
	number uint64
	value  any
}

// cborReader reads one document.
type cborReader struct {
	rest  []byte
	items int
}

// parseCBOR gives int64, []byte, string, bool, nil, []any, cborMap or cborTag.
func parseCBOR(data []byte) (any, error) {
	r := cborReader{rest: data}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if len(r.rest) > 0 {
		return nil, errCBOR
	}
	return v, nil
}

func (r *cborReader) value(depth int) (any, error) {
	if r.items++; depth > maxCBORDepth || r.items > maxCBORItems {
		return nil, errCBOR
	}
	kind, n, err := r.head()
	if err != nil {
		return nil, err
	}
	switch kind {
	case 0, 1:
		return integer(kind, n)
	case 2, 3:
		return r.text(kind, n)
	case 4:
		return r.list(n, depth)
	case 5:
		return r.pairs(n, depth)
	case 6:
		v, err := r.value(depth + 1)
		return cborTag{n, v}, err
	}
	switch n { // simple values
	case 20, 21:
		return n == 21, nil
	case 22:
		return nil, nil
	}
	return nil, errCBOR
}

// head reads a type and its argument.
func (r *cborReader) head() (kind byte, n uint64, err error) {
	if len(r.rest) == 0 {
		return 0, 0, errCBOR
	}
	first := r.rest[0]
	kind, n = first>>5, uint64(first&31)
	r.rest = r.rest[1:]
	if n < 24 {
		return kind, n, nil
	}
	if n > 27 || kind == 7 {
		return 0, 0, errCBOR // of no stated length, or a float
	}
	size := 1 << (n - 24)
	if len(r.rest) < size {
		return 0, 0, errCBOR
	}
	var wide [8]byte
	copy(wide[8-size:], r.rest)
	r.rest = r.rest[size:]
	return kind, binary.BigEndian.Uint64(wide[:]), nil
}

func integer(kind byte, n uint64) (any, error) {
	if n > math.MaxInt64 {
		return nil, errCBOR
	}
	if kind == 1 {
		return -1 - int64(n), nil
	}
	return int64(n), nil
}

func (r *cborReader) text(kind byte, n uint64) (any, error) {
	if n > uint64(len(r.rest)) {
		return nil, errCBOR
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	if kind == 2 {
		return s, nil
	}
	if !utf8.Valid(s) {
		return nil, errCBOR
	}
	return string(s), nil
}

func (r *cborReader) list(n uint64, depth int) (any, error) {
	if n > uint64(len(r.rest)) {
		return nil, errCBOR
	}
	list := []any{}
	for range n {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (r *cborReader) pairs(n uint64, depth int) (any, error) {
	if n > uint64(len(r.rest)) {
		return nil, errCBOR
	}
	m := cborMap{}
	for range n {
		key, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case int64, string:
		default:
			return nil, errCBOR
		}
		if _, twice := m[key]; twice {
			return nil, errors.New("names a field twice")
		}
		if m[key], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// cborBytes writes the head of a string of bytes, and the string.
func cborBytes(out, s []byte) []byte {
	switch n := len(s); {
	case n < 24:
		out = append(out, 0x40|byte(n))
	case n < 1<<8:
		out = append(out, 0x58, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x59), uint16(n))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0x5a), uint32(n))
	}
	return append(out, s...)
}
