package feed

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a compressed stream may ask for. Grype's
// databases ask for this much: they are made by `zstd --ultra -22`.
const maxWindow = 128 << 20

// Unpack gives the plain bytes of a file that may be compressed with gzip,
// bzip2, xz or zstd, told by its first bytes, and ends with an error after limit
// bytes: what a stream says of its own size is never believed. The caller
// closes it; that does not close r.
func Unpack(r io.Reader, limit int64) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	plain, err := decompressor(in, head)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&capped{plain, limit}, plain}, nil
}

func decompressor(in io.Reader, head []byte) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(in)), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		r, err := xz.ReaderConfig{DictCap: maxWindow}.NewReader(in)
		return io.NopCloser(r), err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// capped fails, where io.LimitReader would end.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		return 0, errors.New("unpacks to more than its bound")
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errors.New("unpacks to more than its bound")
	}
	return n, err
}

// EachFile calls each with the name and the content of every regular file of a
// tar archive, compressed or not, that want wants. A file larger than MaxRecord
// is handed to skip. Content is valid during the call only.
func EachFile(ctx context.Context, r io.Reader, want func(name string) bool, each func(name string, data []byte) error, skip func(name string, err error)) error {
	plain, err := Unpack(r, maxUncompressed)
	if err != nil {
		return fmt.Errorf("the archive: %w", err)
	}
	defer func() { _ = plain.Close() }() // only read
	archive := tar.NewReader(plain)
	var buf bytes.Buffer
	for files := 0; ; files++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err = errors.Join(ctx.Err(), err); err != nil {
			return fmt.Errorf("the archive: %w", err)
		}
		if files > maxRecords {
			return fmt.Errorf("the archive: more than %d files", maxRecords)
		}
		if header.Typeflag != tar.TypeReg || !want(header.Name) {
			continue
		}
		buf.Reset()
		if n, err := buf.ReadFrom(io.LimitReader(archive, MaxRecord+1)); err != nil {
			return fmt.Errorf("the archive: %w", err)
		} else if n > MaxRecord {
			skip(clip(header.Name, maxID), fmt.Errorf("unpacks to more than %d bytes", MaxRecord))
			continue
		}
		if err := each(header.Name, buf.Bytes()); err != nil {
			return err
		}
	}
}
