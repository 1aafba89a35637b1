package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Docker is a Docker engine that images are read from.
type Docker struct {
	socket string
	api    *client.Client
}

// Found is an image in an engine.
type Found struct {
	Digest string
	// ConfigDigest: the engine's id of the image is its config digest. Engines
	// with containerd's image store use a manifest's instead.
	ConfigDigest bool
	DiffIDs      []string // of its layers, by the engine's word
	References   []string // tags and repository digests

	root string // the engine's data folder, when its storage driver is overlay2
}

// OpenDocker prepares talking to the engine at socket (unix:///…); it does not
// connect yet.
func OpenDocker(socket string) (*Docker, error) {
	if !strings.HasPrefix(socket, "unix://") {
		return nil, fmt.Errorf("engine %q: not a unix socket; write unix:///path/to/docker.sock", socket)
	}
	api, err := client.New(client.WithHost(socket), client.WithUserAgent("breakwater"))
	if err != nil {
		return nil, fmt.Errorf("engine %q: %w", socket, err)
	}
	return &Docker{socket: socket, api: api}, nil
}

// Close gives the connection back.
func (d *Docker) Close() error { return d.api.Close() }

// Find resolves a name, tag or digest.
func (d *Docker) Find(ctx context.Context, name string) (Found, error) {
	got, err := d.api.ImageInspect(ctx, name)
	if err != nil {
		return Found{}, d.explain(err)
	}
	root := ""
	if g := got.GraphDriver; g != nil && g.Name == "overlay2" {
		// The top layer is ROOT/overlay2/NAME/diff.
		if dir := filepath.Dir(filepath.Dir(g.Data["UpperDir"])); filepath.Base(dir) == "overlay2" {
			root = filepath.Dir(dir)
		}
	}
	return Found{
		root:         root,
		Digest:       got.ID,
		ConfigDigest: got.Descriptor == nil,
		DiffIDs:      got.RootFS.Layers,
		References:   append(append([]string{}, got.RepoTags...), got.RepoDigests...),
	}, nil
}

// Export streams the image in `docker save`'s format. The caller closes it.
func (d *Docker) Export(ctx context.Context, digest string) (io.ReadCloser, error) {
	r, err := d.api.ImageSave(ctx, []string{digest})
	if err != nil {
		return nil, d.explain(err)
	}
	return r, nil
}

// explain names the reason and the way out. The client's own text holds the
// engine's words.
func (d *Docker) explain(err error) error {
	switch {
	case errdefs.IsNotFound(err):
		return &notFoundError{"docker (" + d.socket + ")"}
	case errdefs.IsInvalidArgument(err):
		return fmt.Errorf("docker (%s) does not take that name: %w", d.socket, err)
	case client.IsErrConnectionFailed(err), errors.Is(err, io.ErrUnexpectedEOF), errdefs.IsUnavailable(err):
		return &unreachableError{fmt.Sprintf("docker (%s) does not answer; start the engine, or name its socket with --engine: %v", d.socket, err), err}
	}
	return fmt.Errorf("docker (%s): %w", d.socket, err)
}
