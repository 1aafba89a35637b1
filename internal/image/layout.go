package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenLayout opens an image of an OCI layout, a folder (image-spec,
// image-layout.md). Blobs are opened beneath the folder, never through links
// that lead out of it.
func OpenLayout(ctx context.Context, path string, c Choice, limits Limits) (*Source, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, reason(err)
	}
	index, err := readIn(root, "index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("holds no index.json: no OCI layout")
	}
	var r *Resolved
	if err == nil {
		r, err = Resolve(ctx, index, c, limits, func(_ context.Context, d Descriptor, limit int64) ([]byte, error) {
			return readIn(root, blobName(d.Digest), limit)
		})
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	open := func(_ context.Context, i int) (*Content, error) {
		return openBlob(root, blobName(r.Blobs[i].Digest))
	}
	return &Source{Image: r.Image, Open: open, Blobs: r.digests(), close: root.Close}, nil
}

// reason takes away the path, which stands in front of the message already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func readIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}

func openBlob(root *os.Root, name string) (*Content, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Content{File: f, Size: info.Size()}, nil
}

// openRegular does not wait for a pipe and takes no device.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OpenFolder takes a folder as the whole root file system of something. It has
// no digest, no configuration, and one layer.
func OpenFolder(path string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if !info.IsDir() {
		return nil, errors.New("is not a folder")
	}
	folder := Folder{Path: path}
	if abs, err := filepath.Abs(path); err == nil && abs == "/" {
		folder.OneDevice, folder.Skip = true, hostSkip()
	}
	return one(folder), nil
}

// OpenHost takes this host's own root file system, without what is mounted on
// it and without what its engines store.
func OpenHost() (*Source, error) { return OpenFolder("/") }

// hostSkip are the folders of a host that are no part of what it runs: kernel
// file systems, and what its engines store, which is scanned image by image.
func hostSkip() []string {
	return strings.Fields("proc sys dev run tmp var/tmp var/lib/docker var/lib/containerd var/lib/containers var/lib/kubelet/pods")
}

func one(folder Folder) *Source {
	img := &Image{Layers: []Layer{{}}}
	return &Source{Image: img, Mixed: true, Open: func(context.Context, int) (*Content, error) { return &Content{Folder: &folder}, nil }}
}
