package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

var (
	errNoManifest = errors.New("holds neither manifest.json nor index.json: no archive of `docker save`, no OCI layout")
	errTruncated  = errors.New("ends too early: the archive is truncated")
)

// maxMembers bounds the entries of the outer archive: a few per layer.
const maxMembers = 20_000

// member is one entry of the outer archive.
type member struct {
	off, size int64
	link      string // symlink target, cleaned; "" for files
	twice     bool
}

// archive is the index of an outer archive.
type archive struct {
	r       io.ReaderAt
	members map[string]member
}

// ReadArchive reads one image from size bytes of r, its layers in parallel.
// newSink is called once a layer, from several goroutines. An archive that is
// compressed as a whole is read as a stream.
func ReadArchive(ctx context.Context, r io.ReaderAt, size int64, o Options, newSink func() Sink) (*Image, error) {
	plain, compressed, closer, err := decompress(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	defer closer()
	if compressed {
		return ReadStream(ctx, plain, o, newSink)
	}
	s := newReading(ctx, o)
	a, err := index(r, size)
	if err != nil {
		return nil, err
	}
	m, img, err := a.image(ctx, o, s.limits)
	if err != nil {
		return nil, err
	}
	known := make([]bool, len(m.Layers))
	if o.Known != nil {
		if known, err = o.Known(img); err != nil {
			return nil, err
		}
	}
	layers, err := a.layers(s, m, known, newSink)
	if err != nil {
		return nil, err
	}
	img.Gaps = s.gaps()
	if _, at, err := find(a.members, m.Config); err == nil {
		img.ConfigAt = Extent{at.off, at.size}
	}
	return img, img.place(layers)
}

// index reads the outer headers only. archive/tar reads no byte ahead of what
// it returns, so the reader's position after Next is where the content lies.
func index(r io.ReaderAt, size int64) (*archive, error) {
	a := &archive{r: r, members: map[string]member{}}
	sr := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(sr)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, outerError(err, n)
		}
		if n >= maxMembers {
			return nil, &LimitError{"members", maxMembers}
		}
		off, err := sr.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if off+h.Size > size {
			return nil, errTruncated
		}
		a.add(h, off)
	}
}

// outerError tells a file that is no archive at all from one that is cut off.
func outerError(err error, members int) error {
	switch {
	case members == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
		return errors.New("is not a tar archive")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errTruncated
	}
	return err
}

func (a *archive) add(h *tar.Header, off int64) {
	name := CleanPath(h.Name)
	_, twice := a.members[name]
	switch kindOf(h.Typeflag) {
	case File:
		a.members[name] = member{off: off, size: h.Size, twice: twice}
	case Symlink:
		a.members[name] = member{link: CleanPath(path.Join(path.Dir(name), h.Linkname)), twice: twice}
	case Hardlink:
		a.members[name] = member{link: CleanPath(h.Linkname), twice: twice}
	}
}

// find resolves links inside the archive: older engines write a layer that
// occurs twice as a symlink to its first copy.
func find(members map[string]member, name string) (string, member, error) {
	clean := CleanPath(name)
	for range 8 {
		m, ok := members[clean]
		switch {
		case !ok:
			return "", member{}, fmt.Errorf("%s is missing: the archive is truncated or forged", name)
		case m.twice:
			return "", member{}, fmt.Errorf("holds %s more than once: which one an engine would load is not certain", name)
		case m.link == "":
			return clean, m, nil
		}
		clean = m.link
	}
	return "", member{}, fmt.Errorf("%s: too many links", name)
}

func (a *archive) read(name string, limit int64) ([]byte, error) {
	_, m, err := find(a.members, name)
	if err != nil {
		return nil, err
	}
	if m.size > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	data := make([]byte, m.size)
	if _, err := io.ReadFull(io.NewSectionReader(a.r, m.off, m.size), data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, unexpected(err))
	}
	return data, nil
}

// blobs gives metadata out of an archive by name, at most limit bytes of it.
type blobs func(name string, limit int64) ([]byte, error)

func (a *archive) image(ctx context.Context, o Options, limits Limits) (manifest, *Image, error) {
	return describe(ctx, a.members, a.read, o, limits)
}

// describe finds out what an archive holds: manifest.json is Docker's, index.json
// an OCI layout's.
func describe(ctx context.Context, members map[string]member, read blobs, o Options, limits Limits) (manifest, *Image, error) {
	if _, ok := members["manifest.json"]; !ok {
		if _, ok := members["index.json"]; !ok {
			return manifest{}, nil, errNoManifest
		}
		return describeLayout(ctx, read, o, limits)
	}
	data, err := read("manifest.json", limits.Metadata)
	if err != nil {
		return manifest{}, nil, err
	}
	ms, err := parseManifest(data)
	if err != nil {
		return manifest{}, nil, err
	}
	m, err := choose(ms, o.Want)
	if err != nil {
		return manifest{}, nil, err
	}
	data, err = read(m.Config, limits.Metadata)
	if err != nil {
		return manifest{}, nil, err
	}
	img, err := parseConfig(m, data, limits)
	return m, img, err
}

func describeLayout(ctx context.Context, read blobs, o Options, limits Limits) (manifest, *Image, error) {
	root, err := read("index.json", maxManifest)
	if err != nil {
		return manifest{}, nil, err
	}
	r, err := Resolve(ctx, root, Choice{Name: o.Want, Platform: o.Platform}, limits, func(_ context.Context, d Descriptor, limit int64) ([]byte, error) {
		return read(blobName(d.Digest), limit)
	})
	if err != nil {
		return manifest{}, nil, err
	}
	m := manifest{RepoTags: r.Tags, Config: blobName(r.Digest)}
	for _, d := range r.Blobs {
		m.Layers = append(m.Layers, blobName(d.Digest))
	}
	return m, r.Image, nil
}

// blobName is where an OCI layout keeps a blob.
func blobName(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (a *archive) layers(s *reading, m manifest, known []bool, newSink func() Sink) ([]Layer, error) {
	s.total.Store(int64(len(m.Layers)))
	layers := make([]Layer, len(m.Layers))
	g, ctx := errgroup.WithContext(s.ctx)
	s.ctx = ctx
	g.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for i, name := range m.Layers {
		if i < len(known) && known[i] {
			continue
		}
		g.Go(func() error {
			_, mem, err := find(a.members, name)
			if err != nil {
				return err
			}
			sr := io.NewSectionReader(a.r, mem.off, mem.size)
			layers[i], err = s.readLayer(sr, sr, newSink())
			if err != nil {
				return fmt.Errorf("layer %d (%s): %w", i, name, err)
			}
			layers[i].At = Extent{mem.off, mem.size}
			return nil
		})
	}
	return layers, g.Wait()
}
