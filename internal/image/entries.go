package image

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// Reader reads single layers that another process hands over one by one. They
// share the limits of one image. Its methods are safe for concurrent use.
type Reader struct{ state *reading }

// NewReader makes the reader of one image. Options.Want means nothing to it.
func NewReader(ctx context.Context, o Options, layers int) *Reader {
	s := newReading(ctx, o)
	s.total.Store(int64(layers))
	return &Reader{s}
}

// Blob reads a layer from a stream, or from the size bytes of at, which may be
// nil. The diff id is computed only when Options.Verify asks for it.
func (r *Reader) Blob(raw io.Reader, at io.ReaderAt, size int64, sink Sink) (Layer, error) {
	if at == nil {
		return r.state.readLayer(raw, nil, sink)
	}
	section := io.NewSectionReader(at, 0, size)
	return r.state.readLayer(section, section, sink)
}

// Gaps says what was skipped in all layers.
func (r *Reader) Gaps() []string { return r.state.gaps() }

var (
	errBrokenOff = errors.New("the folder's entries break off")
	errPacket    = errors.New("a packet of entries is damaged")
)

// Folder reads a layer from the socket fd that Folder.Send writes to.
func (r *Reader) Folder(fd int, sink Sink) (Layer, error) {
	layer := Layer{Sink: sink}
	buf, oob := make([]byte, packetBytes+entryHead+3*4096), make([]byte, unix.CmsgSpace(4*packetFiles))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return layer, err
		case n == 0:
			return layer, errBrokenOff
		}
		files, err := rights(oob[:oobn])
		if err == nil && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
			err = errPacket
		}
		if err == nil && n == 1 && buf[0] == endOfEntries {
			r.state.layers.Add(1)
			r.state.report()
			return layer, nil
		}
		if err == nil {
			err = r.packet(buf[:n], &files, &layer)
		}
		for _, f := range files {
			_ = unix.Close(f)
		}
		if err != nil {
			return layer, err
		}
	}
}

func rights(oob []byte) (files []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		files = append(files, got...)
	}
	return files, nil
}

// packet visits its entries; files shrinks by those that were used and closed.
func (r *Reader) packet(b []byte, files *[]int, layer *Layer) error {
	for len(b) > 0 {
		e, has, rest, err := decodeEntry(b)
		if err != nil {
			return err
		}
		b = rest
		if err := r.state.addEntry(); err != nil {
			return err
		}
		if e.Kind != Dir {
			layer.Files++
		}
		if e.Kind == File {
			layer.Size += e.Size
		}
		if !has {
			if err := layer.Sink.Visit(e, unopened(e)); err != nil {
				return err
			}
			continue
		}
		if len(*files) == 0 {
			return errPacket
		}
		fd := (*files)[0]
		*files = (*files)[1:]
		err = layer.Sink.Visit(e, &descriptor{fd: fd, size: e.Size})
		_ = unix.Close(fd)
		if err != nil {
			return err
		}
		if err := r.state.addBytes(e.Size); err != nil {
			return err
		}
	}
	return nil
}

// unopened is the content of a file that the walker did not, or could not, open.
func unopened(e Entry) io.Reader {
	if e.Kind != File {
		return nil
	}
	return eof{}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func decodeEntry(b []byte) (e Entry, has bool, rest []byte, err error) {
	if len(b) < entryHead {
		return e, false, nil, errPacket
	}
	path, link := int(binary.LittleEndian.Uint16(b[14:])), int(binary.LittleEndian.Uint16(b[16:]))
	if len(b) < entryHead+path+link || path == 0 || b[0] > byte(Other) {
		return e, false, nil, errPacket
	}
	e = Entry{
		Kind: Kind(b[0]), Mode: binary.LittleEndian.Uint32(b[2:]), Size: int64(binary.LittleEndian.Uint64(b[6:])),
		Path: string(b[entryHead : entryHead+path]), Link: string(b[entryHead+path : entryHead+path+link]),
	}
	if e.Size < 0 {
		return e, false, nil, errPacket
	}
	return e, b[1] == 1, b[entryHead+path+link:], nil
}

// descriptor is an open regular file, never more than its size.
type descriptor struct {
	fd        int
	off, size int64
}

func (d *descriptor) Read(p []byte) (int, error) {
	n, err := d.ReadAt(p, d.off)
	d.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (d *descriptor) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= d.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > d.size-off
	if short {
		p = p[:d.size-off]
	}
	for n < len(p) {
		m, err := unix.Pread(d.fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF // the file shrank
		}
		n += m
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}
