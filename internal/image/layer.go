package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	blockSize = 256 << 10 // one read of a layer that is read whole; makes syscalls cheap, fits the cache
	jumpSize  = 32 << 10  // one read of a layer that is skipped through: headers and small files
)

// blocks reads a decompressed layer in large blocks. It is an io.Seeker so
// that archive/tar skips content without copying it; only moving forward from
// the current place works.
type blocks struct {
	state *reading
	src   io.Reader
	hash  hash.Hash         // of everything, or nil
	jump  *io.SectionReader // src as a file to skip through, or nil
	buf   []byte
	r, w  int
	off   int64 // of buf[r] in the layer
	next  int64 // bytes at which to report progress again
}

func newBlocks(state *reading, src io.Reader, at *io.SectionReader, hashed bool) *blocks {
	b := &blocks{state: state, src: src}
	size := blockSize
	switch {
	case hashed:
		b.hash = sha256.New()
	case at != nil:
		b.src, b.jump, size = nil, at, jumpSize
	}
	b.buf = make([]byte, size)
	return b
}

func (b *blocks) fill() error {
	n, err := b.read()
	b.r, b.w = 0, n
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	if b.hash != nil {
		b.hash.Write(b.buf[:n])
	}
	return b.count(int64(n))
}

func (b *blocks) read() (int, error) {
	if b.jump != nil {
		return b.jump.ReadAt(b.buf, b.off)
	}
	return b.src.Read(b.buf)
}

// count keeps the account of a layer's bytes, read or skipped.
func (b *blocks) count(n int64) error {
	if b.off >= b.next {
		b.next = b.off + 16<<20
		b.state.report()
	}
	return b.state.addBytes(n)
}

func (b *blocks) Read(p []byte) (int, error) {
	if b.r == b.w {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	b.off += int64(n)
	return n, nil
}

func (b *blocks) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return -1, errors.New("a layer is only read forward")
	}
	for offset > 0 {
		if b.r == b.w {
			if b.jump != nil {
				return b.leap(offset)
			}
			if err := b.fill(); err != nil {
				return b.off, unexpected(err)
			}
		}
		n := min(int64(b.w-b.r), offset)
		b.r += int(n)
		b.off += n
		offset -= n
	}
	return b.off, nil
}

// leap moves on without reading; nothing is buffered.
func (b *blocks) leap(offset int64) (int64, error) {
	if offset > b.jump.Size()-b.off {
		return b.off, io.ErrUnexpectedEOF
	}
	b.off += offset
	return b.off, b.count(offset)
}

// rest goes to the end: for the hash, and to know the size.
func (b *blocks) rest() error {
	if b.jump != nil {
		b.off = b.jump.Size()
		return nil
	}
	for {
		b.off += int64(b.w - b.r)
		if err := b.fill(); err != nil {
			b.r, b.w = 0, 0
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// digest is the layer's diff id, or "" when it was not computed.
func (b *blocks) digest() string {
	if b.hash == nil {
		return ""
	}
	return "sha256:" + hex.EncodeToString(b.hash.Sum(nil))
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// content is a file in a plain layer of a file that can be read at offsets.
type content struct {
	io.Reader
	io.ReaderAt
}

// readLayer walks one layer into sink. raw is the blob as the archive holds
// it; at is the same bytes by offset, or nil.
func (s *reading) readLayer(raw io.Reader, at *io.SectionReader, sink Sink) (Layer, error) {
	plain, compressed, closer, err := decompress(raw)
	if err != nil {
		return Layer{}, err
	}
	defer closer()
	if compressed {
		at = nil
	}
	b := newBlocks(s, plain, at, s.verify && (compressed || !s.apart))
	files, err := s.walk(b, at, sink)
	if err != nil {
		return Layer{}, err
	}
	if err := b.rest(); err != nil {
		return Layer{}, err
	}
	s.layers.Add(1)
	s.report()
	return Layer{DiffID: b.digest(), Size: b.off, Files: files, Sink: sink, Plain: !compressed}, nil
}

func (s *reading) walk(b *blocks, at *io.SectionReader, sink Sink) (files int, err error) {
	tr := tar.NewReader(b)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return files, fmt.Errorf("after %d entries: %w", files, err)
		}
		if err := s.addEntry(); err != nil {
			return files, err
		}
		e, ok := s.entry(h)
		if !ok {
			continue
		}
		if e.Kind != Dir {
			files++
		}
		if err := sink.Visit(e, open(e, h, tr, b, at)); err != nil {
			return files, err
		}
	}
}

// open gives the content of a file, by offset too where that is possible:
// sparse files are the exception, their bytes do not lie there in one piece.
func open(e Entry, h *tar.Header, tr *tar.Reader, b *blocks, at *io.SectionReader) io.Reader {
	if e.Kind != File {
		return nil
	}
	if at == nil || h.Typeflag == tar.TypeGNUSparse || sparsePAX(h) {
		return tr
	}
	return content{tr, io.NewSectionReader(at, b.off, h.Size)}
}

func sparsePAX(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// entry cleans one header; ok is false for the root itself and for names
// beyond the limits.
func (s *reading) entry(h *tar.Header) (Entry, bool) {
	if len(h.Name) > s.limits.Path || strings.Count(h.Name, "/") > s.limits.Depth {
		s.skipped.Add(1)
		return Entry{}, false
	}
	p := CleanPath(h.Name)
	if p == "" {
		return Entry{}, false
	}
	return Entry{Path: p, Kind: kindOf(h.Typeflag), Link: h.Linkname, Size: h.Size, Mode: uint32(h.Mode) & 0o7777}, true
}

func kindOf(flag byte) Kind {
	switch flag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse, tar.TypeCont: //nolint:staticcheck // TypeRegA is what old archives hold
		return File
	case tar.TypeDir:
		return Dir
	case tar.TypeSymlink:
		return Symlink
	case tar.TypeLink:
		return Hardlink
	}
	return Other
}

// CleanPath makes a name relative to the image's root, as an engine's
// extraction would: "./a", "/a" and "../a" all are "a"; the root is "".
func CleanPath(name string) string {
	if isClean(name) {
		return name
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// isClean spares the usual name the allocations of path.Clean.
func isClean(name string) bool {
	return name != "" && name[0] != '/' && name[0] != '.' && name[len(name)-1] != '/' &&
		!strings.Contains(name, "//") && !strings.Contains(name, "/.")
}

// decompress looks at the first bytes: gzip, zstd, or plain.
func decompress(raw io.Reader) (r io.Reader, compressed bool, closer func(), err error) {
	none := func() {}
	head := make([]byte, 4)
	n, err := io.ReadFull(raw, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, false, none, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), raw)
	switch {
	case n >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(bufio.NewReaderSize(whole, 64<<10))
		if err != nil {
			return nil, true, none, fmt.Errorf("gzip: %w", err)
		}
		return z, true, func() { _ = z.Close() }, nil
	case n == 4 && bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// The window bounds the decoder's memory whatever the frame asks for;
		// 8 MiB is what zstd's format document tells decoders to support.
		z, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(32<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, none, fmt.Errorf("zstd: %w", err)
		}
		return z, true, z.Close, nil
	}
	return whole, false, none, nil
}
