package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	maxStreamMetadata = 64 << 20 // bytes of all JSON members of one stream that are kept
	streamBuffer      = 128 << 10
)

// stream reads an archive whose manifest may come last: every member that can
// be a layer is read as one, and counted only when the manifest names it.
type stream struct {
	*reading
	newSink func() Sink
	members map[string]member
	data    map[string][]byte
	kept    int64
	read    map[string]Layer
	failed  map[string]error
}

// ReadStream reads one image from a stream in one pass, layer after layer. An
// error of a member that the chosen image does not use is ignored.
func ReadStream(ctx context.Context, r io.Reader, o Options, newSink func() Sink) (*Image, error) {
	o.Apart = false // what went by cannot be hashed again
	st := &stream{
		reading: newReading(ctx, o), newSink: newSink,
		members: map[string]member{}, data: map[string][]byte{},
		read: map[string]Layer{}, failed: map[string]error{},
	}
	if err := st.pass(r); err != nil {
		return nil, err
	}
	return st.image(o)
}

func (st *stream) pass(r io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, streamBuffer))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return outerError(err, n)
		}
		if n >= maxMembers {
			return &LimitError{"members", maxMembers}
		}
		a := archive{members: st.members}
		a.add(h, 0)
		if kindOf(h.Typeflag) != File {
			continue
		}
		if err := st.member(CleanPath(h.Name), h.Size, tr); err != nil {
			return err
		}
	}
}

// member keeps metadata and reads what may be a layer.
func (st *stream) member(name string, size int64, r io.Reader) error {
	br := bufio.NewReaderSize(r, 4096)
	head, _ := br.Peek(262)
	if len(head) == 0 {
		return nil
	}
	if isJSON(head) {
		return st.keep(name, size, br)
	}
	switch path.Base(name) {
	case "VERSION", "repositories", "oci-layout":
		return nil
	}
	layer, err := st.readLayer(br, nil, st.newSink())
	var limit *LimitError
	switch {
	case err == nil:
		st.read[name] = layer
	case errors.As(err, &limit), st.ctx.Err() != nil:
		return err
	default:
		st.failed[name] = err
	}
	return nil
}

// isJSON tells metadata from a layer whose first file is called "{" or "[":
// a tar header carries "ustar" at byte 257.
func isJSON(head []byte) bool {
	tarred := len(head) == 262 && string(head[257:]) == "ustar"
	return !tarred && (head[0] == '{' || head[0] == '[')
}

// keep holds a JSON member in memory: the manifest or a config. Members that
// are neither (index.json, a legacy layer's "json") are few and small.
func (st *stream) keep(name string, size int64, r io.Reader) error {
	if strings.HasSuffix(name, "/json") {
		return nil
	}
	if size > st.limits.Metadata {
		st.failed[name] = fmt.Errorf("is larger than %d bytes", st.limits.Metadata)
		return nil
	}
	if st.kept += size; st.kept > maxStreamMetadata {
		return &LimitError{"bytes of metadata", maxStreamMetadata}
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return outerError(unexpected(err), 1)
	}
	st.data[name] = data
	return nil
}

func (st *stream) image(o Options) (*Image, error) {
	m, img, err := describe(st.ctx, st.members, st.metadata, o, st.limits)
	if err != nil {
		return nil, err
	}
	layers := make([]Layer, len(m.Layers))
	for i, name := range m.Layers {
		if layers[i], err = st.layer(name); err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i, name, err)
		}
	}
	img.Gaps = st.gaps()
	return img, img.place(layers)
}

func (st *stream) metadata(name string, limit int64) ([]byte, error) {
	clean, _, err := find(st.members, name)
	if err != nil {
		return nil, err
	}
	if err := st.failed[clean]; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	data, ok := st.data[clean]
	if !ok {
		return nil, fmt.Errorf("%s: is not JSON", name)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

func (st *stream) layer(name string) (Layer, error) {
	clean, _, err := find(st.members, name)
	if err != nil {
		return Layer{}, err
	}
	if err := st.failed[clean]; err != nil {
		return Layer{}, err
	}
	layer, ok := st.read[clean]
	if !ok {
		return Layer{}, errors.New("is not a tar archive")
	}
	return layer, nil
}
