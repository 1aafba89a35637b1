package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	contents "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/google/go-containerregistry/pkg/name"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ContainerdSocket is where containerd listens.
const ContainerdSocket = "unix:///run/containerd/containerd.sock"

// Containerd is a containerd that images are read from: its image store says
// what a name means; layers are read from its unpacked snapshots where they are
// folders that this process may read, else from its content store.
type Containerd struct {
	socket string
	conn   *grpc.ClientConn
}

// OpenContainerd prepares talking to containerd at socket (unix:///…); it does
// not connect yet.
func OpenContainerd(socket string) (*Containerd, error) {
	if !strings.HasPrefix(socket, "unix://") {
		return nil, fmt.Errorf("engine %q: not a unix socket; write unix:///path/to/containerd.sock", socket)
	}
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()), // a unix socket: the kernel says who is there
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)), grpc.WithAuthority("localhost"))
	if err != nil {
		return nil, fmt.Errorf("engine %q: %w", socket, err)
	}
	return &Containerd{socket: socket, conn: conn}, nil
}

// Close gives the connection back.
func (c *Containerd) Close() error { return c.conn.Close() }

// Open finds an image by name or digest, in all namespaces, and opens it.
func (c *Containerd) Open(ctx context.Context, want, platform string, limits Limits) (*Source, error) {
	spaces, err := c.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range spaces {
		in := namespace{c, metadata.AppendToOutgoingContext(ctx, "containerd-namespace", ns)}
		img, err := in.find(want)
		if err != nil {
			return nil, err
		}
		if img != nil {
			return in.open(img, platform, limits)
		}
	}
	return nil, &notFoundError{"containerd (" + c.socket + ")"}
}

func (c *Containerd) namespaces(ctx context.Context) ([]string, error) {
	got, err := namespaces.NewNamespacesClient(c.conn).List(ctx, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return nil, c.explain(err)
	}
	var out []string
	for _, ns := range got.Namespaces {
		out = append(out, ns.Name)
	}
	slices.Sort(out)
	return out, nil
}

func (c *Containerd) explain(err error) error {
	if status.Code(err) == codes.Unavailable || status.Code(err) == codes.PermissionDenied {
		return &unreachableError{fmt.Sprintf("containerd (%s) does not answer: %s", c.socket, status.Convert(err).Message()), err}
	}
	return fmt.Errorf("containerd (%s): %s", c.socket, status.Convert(err).Message())
}

// namespace is one of containerd's; its context says which.
type namespace struct {
	*Containerd
	ctx context.Context
}

// find gives nil when the image is not there.
func (n namespace) find(want string) (*images.Image, error) {
	client := images.NewImagesClient(n.conn)
	for _, candidate := range canonical(want) {
		got, err := client.Get(n.ctx, &images.GetImageRequest{Name: candidate})
		if err == nil {
			return got.Image, nil
		}
		if code := status.Code(err); code != codes.NotFound && code != codes.InvalidArgument {
			return nil, n.explain(err)
		}
	}
	if _, err := digestHex(want); err != nil {
		return nil, nil
	}
	got, err := client.List(n.ctx, &images.ListImagesRequest{Filters: []string{"target.digest==" + want}})
	if err != nil {
		return nil, n.explain(err)
	}
	if len(got.Images) == 0 {
		return nil, nil
	}
	return got.Images[0], nil
}

// canonical is a name as containerd writes it: docker.io/library/nginx:latest.
func canonical(want string) []string {
	out := []string{want}
	if ref, err := name.ParseReference(want); err == nil {
		out = append(out, strings.Replace(ref.Name(), "index.docker.io/", "docker.io/", 1))
	}
	return out
}

func (n namespace) open(img *images.Image, platform string, limits Limits) (*Source, error) {
	fetch := func(_ context.Context, d Descriptor, limit int64) ([]byte, error) { return n.read(d, limit) }
	root, err := checked(n.ctx, fetch, Descriptor{Digest: img.Target.Digest, Size: img.Target.Size}, maxManifest)
	if err != nil {
		return nil, err
	}
	res, err := Resolve(n.ctx, root, Choice{Platform: platform}, limits, fetch)
	if err != nil {
		return nil, err
	}
	res.Tags = []string{img.Name}
	if src, err := n.unpacked(res.Image); err == nil {
		return src, nil
	}
	return &Source{Image: res.Image, Blobs: res.digests(), Open: func(ctx context.Context, i int) (*Content, error) {
		blob, err := n.blob(ctx, res.Blobs[i].Digest)
		if err != nil {
			return nil, err
		}
		body, err := newChecked(blob, res.Blobs[i], limits.withDefaults().Bytes)
		return &Content{Stream: body}, err
	}}, nil
}

func (n namespace) read(d Descriptor, limit int64) ([]byte, error) {
	blob, err := n.blob(n.ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(io.LimitReader(blob, limit+1))
}

// blob reads from the content store.
func (n namespace) blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	md, _ := metadata.FromOutgoingContext(n.ctx)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, md))
	stream, err := contents.NewContentClient(n.conn).Read(ctx, &contents.ReadContentRequest{Digest: digest})
	if err != nil {
		cancel()
		return nil, n.explain(err)
	}
	return &contentStream{namespace: n, stream: stream, cancel: cancel, digest: digest}, nil
}

type contentStream struct {
	namespace
	stream grpc.ServerStreamingClient[contents.ReadContentResponse]
	cancel context.CancelFunc
	digest string
	rest   []byte
}

func (s *contentStream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		got, err := s.stream.Recv()
		switch {
		case err == io.EOF:
			return 0, io.EOF
		case status.Code(err) == codes.NotFound:
			return 0, fmt.Errorf("containerd (%s) no longer has %s of the image; pull it again", s.socket, s.digest)
		case err != nil:
			return 0, s.explain(err)
		}
		s.rest = got.Data
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *contentStream) Close() error {
	s.cancel()
	return nil
}

const (
	snapshotter = "overlayfs"
	leaseLife   = time.Hour // after which containerd forgets what a killed scan held
)

// unpacked gives the folders of the image's snapshot. Only a view tells where
// they are: it is made for a moment, under a lease, and removed before the
// layers are read; the image itself keeps its snapshots.
func (n namespace) unpacked(img *Image) (*Source, error) {
	chain, err := "", error(nil)
	for _, l := range img.Layers {
		if chain, err = chainID(chain, l.DiffID); err != nil {
			return nil, err
		}
	}
	id := fmt.Sprintf("breakwater-%d-%d", os.Getpid(), time.Now().UnixNano())
	lease := leases.NewLeasesClient(n.conn)
	_, err = lease.Create(n.ctx, &leases.CreateRequest{ID: id, Labels: map[string]string{"containerd.io/gc.expire": time.Now().Add(leaseLife).Format(time.RFC3339)}})
	if err != nil {
		return nil, n.explain(err)
	}
	defer func() { _, _ = lease.Delete(n.ctx, &leases.DeleteRequest{ID: id}) }() // it expires anyway
	ctx := metadata.AppendToOutgoingContext(n.ctx, "containerd-lease", id)
	client := snapshots.NewSnapshotsClient(n.conn)
	view, err := client.View(ctx, &snapshots.ViewSnapshotRequest{Snapshotter: snapshotter, Key: id, Parent: "sha256:" + chain})
	if err != nil {
		return nil, n.explain(err)
	}
	defer func() {
		_, _ = client.Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: id}) // goes with the lease
	}()
	folders, err := layerFolders(view.Mounts, len(img.Layers))
	if err != nil {
		return nil, err
	}
	return folderSource(img, folders), nil
}

// layerFolders reads the folders out of an overlay mount, the base first.
func layerFolders(mounts []*types.Mount, layers int) ([]string, error) {
	if len(mounts) != 1 || !seesMarks(0) {
		return nil, ErrNotInPlace
	}
	var folders []string
	switch m := mounts[0]; m.Type {
	case "bind":
		folders = []string{m.Source}
	case "overlay":
		for _, o := range m.Options {
			if lower, ok := strings.CutPrefix(o, "lowerdir="); ok {
				folders = strings.Split(lower, ":")
				slices.Reverse(folders)
			}
		}
	}
	if len(folders) != layers {
		return nil, ErrNotInPlace
	}
	for _, f := range folders {
		d, err := os.Open(f)
		if err != nil {
			return nil, errors.Join(ErrNotInPlace, err)
		}
		_ = d.Close()
	}
	return folders, nil
}
