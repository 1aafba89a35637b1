package gobinary

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

var (
	errNoBuildInfo = errors.New("no Go build information")
	errOldFormat   = errors.New("is a Go program from before Go 1.18, or one with an unusual layout: it can only be read from an archive file with plain layers")
)

const (
	headSize   = 4096     // holds the program headers of every usual linker
	maxVersion = 1 << 10  // bytes of the Go version
	maxText    = 16 << 20 // bytes of the module list
	window     = 64 << 10
	align      = 16 // of the information inside its segment
	header     = 32 // bytes of its header
	inline     = 2  // flag: strings follow the header (Go 1.18 and later)
)

const magic = "\xff Go buildinf:"

// segment is the part of the file that is mapped writable.
type segment struct{ off, size int64 }

// scan reads forward to the build information.
func scan(r io.Reader) (version, text string, err error) {
	br := bufio.NewReaderSize(r, window)
	head, _ := br.Peek(headSize)
	if len(head) < 64 || string(head[:4]) != "\x7fELF" {
		return "", "", errNoBuildInfo
	}
	seg, err := dataSegment(head)
	if err != nil {
		return "", "", err
	}
	// What is aligned in memory is aligned in the file; a segment itself need not
	// be (external linkers begin it with small sections).
	start := (seg.off + align - 1) / align * align
	seg.size -= start - seg.off
	if err := skip(r, br, start); err != nil {
		return "", "", errNoBuildInfo // cut off before its data: it cannot run either
	}
	if err := find(br, seg.size); err != nil {
		return "", "", err
	}
	return readStrings(br)
}

// skip moves br, which buffers r, forward to offset n: by a jump where r can
// be read at offsets.
func skip(r io.Reader, br *bufio.Reader, n int64) error {
	if at, ok := r.(io.ReaderAt); ok {
		br.Reset(io.NewSectionReader(at, n, 1<<62-n))
		return nil
	}
	buffered := min(int64(br.Buffered()), n)
	if _, err := br.Discard(int(buffered)); err != nil {
		return err
	}
	if n == buffered {
		return nil
	}
	_, err := io.CopyN(io.Discard, r, n-buffered) // br is empty: past it, without a second copy
	return err
}

// dataSegment finds the first writable PT_LOAD in the ELF program headers.
func dataSegment(head []byte) (segment, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	wide := head[4] == 2
	var phoff, phentsize, phnum int64
	if wide {
		phoff, phentsize, phnum = int64(order.Uint64(head[32:])), int64(order.Uint16(head[54:])), int64(order.Uint16(head[56:]))
	} else {
		phoff, phentsize, phnum = int64(order.Uint32(head[28:])), int64(order.Uint16(head[42:])), int64(order.Uint16(head[44:]))
	}
	if phentsize < 32 || wide && phentsize < 56 {
		return segment{}, errNoBuildInfo
	}
	if phoff < 0 || phoff > int64(len(head)) || phoff+phentsize*phnum > int64(len(head)) {
		return segment{}, errOldFormat
	}
	for i := range phnum {
		ph := head[phoff+i*phentsize:][:phentsize]
		if seg, ok := writable(ph, order, wide); ok {
			return seg, nil
		}
	}
	return segment{}, errNoBuildInfo
}

const (
	ptLoad = 1
	pfW    = 2
)

func writable(ph []byte, order binary.ByteOrder, wide bool) (segment, bool) {
	if order.Uint32(ph) != ptLoad {
		return segment{}, false
	}
	var flags uint32
	var seg segment
	if wide {
		flags = order.Uint32(ph[4:])
		seg = segment{int64(order.Uint64(ph[8:])), int64(order.Uint64(ph[32:]))}
	} else {
		flags = order.Uint32(ph[24:])
		seg = segment{int64(order.Uint32(ph[4:])), int64(order.Uint32(ph[16:]))}
	}
	return seg, flags&pfW != 0 && seg.off >= 0 && seg.off < 1<<40 && seg.size > header
}

// find moves br just behind the header of the build information.
func find(br *bufio.Reader, size int64) error {
	for left := size; left >= header; {
		buf, err := br.Peek(int(min(left, window)))
		if len(buf) < header {
			return errNoBuildInfo
		}
		if i := aligned(buf); i >= 0 {
			flags := buf[i+15]
			if flags&inline == 0 {
				return errOldFormat
			}
			_, err := br.Discard(i + header)
			return err
		}
		if err != nil { // the file ends here
			return errNoBuildInfo
		}
		// The header is aligned, so it cannot begin in the last bytes and
		// have been missed, unless it is cut: keep a header's length.
		n := (len(buf) - header + 1) / align * align
		n = max(n, align)
		if _, err := br.Discard(n); err != nil {
			return err
		}
		left -= int64(n)
	}
	return errNoBuildInfo
}

// aligned finds the magic at a multiple of align with a whole header after it.
func aligned(buf []byte) int {
	for from := 0; from < len(buf); {
		i := bytes.Index(buf[from:], []byte(magic))
		if i < 0 || from+i+header > len(buf) {
			return -1
		}
		if i += from; i%align == 0 {
			return i
		}
		from = i + 1
	}
	return -1
}

// readStrings reads the two strings after the header: Go's version and the module
// list between two 16-byte marks.
func readStrings(br *bufio.Reader) (version, text string, err error) {
	v, err := varString(br, maxVersion)
	if err != nil {
		return "", "", err
	}
	mod, err := varString(br, maxText)
	if err != nil {
		return "", "", err
	}
	if len(mod) >= 33 && mod[len(mod)-17] == '\n' {
		mod = mod[16 : len(mod)-16]
	} else {
		mod = nil
	}
	return string(v), string(mod), nil
}

func varString(br *bufio.Reader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(br)
	if err != nil {
		return nil, errors.New("its Go build information is cut off")
	}
	if n > limit {
		return nil, fmt.Errorf("its Go build information names a string of %d bytes, %d are read at most", n, limit)
	}
	// Grow with what is really there, not with what the length claims.
	var buf bytes.Buffer
	if m, err := io.CopyN(&buf, br, int64(n)); err != nil {
		return nil, fmt.Errorf("its Go build information is cut off after %d of %d bytes", m, n)
	}
	return buf.Bytes(), nil
}
