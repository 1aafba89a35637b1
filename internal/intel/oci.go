package intel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The form of a bundle in a registry: an OCI image manifest whose layers are
// the archives that Export and ExportDelta write.
const (
	configType        types.MediaType = "application/vnd.breakwater.intel.config.v1+json"
	bundleType        types.MediaType = "application/vnd.breakwater.intel.bundle.v1.tar+zstd"
	deltaType         types.MediaType = "application/vnd.breakwater.intel.delta.v1.tar+zstd"
	fromKey                           = "dev.breakwater.intel.delta.from" // SHA-256 of the database that a delta starts at
	versionKey                        = "org.opencontainers.image.version"
	createdKey                        = "org.opencontainers.image.created"
	maxArtifact                       = 8 << 30
	maxArtifactLayers                 = 32
)

// Push sends the bundle in use to a registry, and with it a delta from the one
// before where this folder keeps that and holds the key. reference is
// REGISTRY/REPOSITORY:TAG; credentials are those of Docker's configuration.
func Push(ctx context.Context, data, reference, program string) (m Manifest, err error) {
	ref, err := parseReference(reference)
	if err != nil {
		return m, err
	}
	dir, err := os.MkdirTemp(string(folderOf(data)), importPrefix)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	whole := filepath.Join(dir, "bundle.tar.zst")
	if m, err = toFile(whole, func(w io.Writer) (Manifest, error) { return Export(ctx, data, w) }); err != nil {
		return m, err
	}
	layer, err := newBlob(whole, bundleType)
	if err != nil {
		return m, err
	}
	layers := []mutate.Addendum{{Layer: layer, MediaType: bundleType}}
	if delta, ok := pushedDelta(ctx, data, dir, m); ok {
		layers = append(layers, delta)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), configType)
	if img, err = mutate.Append(img, layers...); err != nil {
		return m, err
	}
	img = mutate.Annotations(img, map[string]string{versionKey: m.Version, createdKey: m.Built.Format("2006-01-02T15:04:05Z")}).(v1.Image)
	if err := remote.Write(ref, img, remoteOptions(ctx, program)...); err != nil {
		return m, fmt.Errorf("push %s: %w", reference, err)
	}
	return m, nil
}

// pushedDelta makes a delta from the bundle before, when there is one; a bundle
// goes without.
func pushedDelta(ctx context.Context, data, dir string, m Manifest) (mutate.Addendum, bool) {
	before, ok := bundleBefore(data, m)
	if !ok {
		return mutate.Addendum{}, false
	}
	path := filepath.Join(dir, "delta.tar.zst")
	if _, err := toFile(path, func(w io.Writer) (Manifest, error) { return ExportDelta(ctx, data, before.SHA256, w) }); err != nil {
		return mutate.Addendum{}, false
	}
	layer, err := newBlob(path, deltaType)
	if err != nil {
		return mutate.Addendum{}, false
	}
	return mutate.Addendum{Layer: layer, MediaType: deltaType, Annotations: map[string]string{fromKey: before.SHA256}}, true
}

// bundleBefore is the kept bundle with other content than the one in use.
func bundleBefore(data string, m Manifest) (kept, bool) {
	folders, err := filepath.Glob(filepath.Join(folderOf(data).bundles(), "*"))
	for _, dir := range folders {
		if before, e := verifyFolder(data, dir); err == nil && e == nil && before.SHA256 != m.SHA256 {
			return kept{before, dir}, true
		}
	}
	return kept{}, false
}

func toFile(path string, write func(io.Writer) (Manifest, error)) (m Manifest, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return m, err
	}
	m, err = write(file)
	return m, errors.Join(err, file.Close())
}

// pullArtifact fetches the layer that is wanted of an artifact: of a bundle the
// delta from the one in use, if there is one, else the whole; of anything else
// its only layer, or the one of a known database.
func pullArtifact(ctx context.Context, reference string, o ImportOptions, whole bool, path string) error {
	ref, err := parseReference(reference)
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, remoteOptions(ctx, o.Program)...)
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	used := ""
	if m, err := Verify(o.Data); err == nil && !whole {
		used = m.SHA256
	}
	layer, err := wantedLayer(manifest, used)
	if err != nil {
		return err
	}
	if layer.Size > maxArtifact {
		return fmt.Errorf("its layer has %d bytes, more than the bound of %d", layer.Size, int64(maxArtifact))
	}
	blob, err := img.LayerByDigest(layer.Digest)
	if err != nil {
		return err
	}
	body, err := blob.Compressed() // checked against the digest while it is read
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to its end or given up
	return saveMember(io.LimitReader(contextReader{ctx, body}, layer.Size), path)
}

func wantedLayer(m *v1.Manifest, used string) (v1.Descriptor, error) {
	if len(m.Layers) == 0 || len(m.Layers) > maxArtifactLayers {
		return v1.Descriptor{}, fmt.Errorf("it has %d layers", len(m.Layers))
	}
	pick := func(want func(v1.Descriptor) bool) (v1.Descriptor, bool) {
		for _, l := range m.Layers {
			if want(l) {
				return l, true
			}
		}
		return v1.Descriptor{}, false
	}
	for _, want := range []func(v1.Descriptor) bool{
		func(l v1.Descriptor) bool {
			return used != "" && l.MediaType == deltaType && l.Annotations[fromKey] == used
		},
		func(l v1.Descriptor) bool { return l.MediaType == bundleType },
		func(l v1.Descriptor) bool { return strings.Contains(string(l.MediaType), "trivy.db") },
		func(v1.Descriptor) bool { return len(m.Layers) == 1 },
	} {
		if l, ok := pick(want); ok {
			return l, nil
		}
	}
	return v1.Descriptor{}, errors.New("none of its layers is a bundle or a database that can be imported")
}

func parseReference(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(strings.TrimPrefix(reference, "oci://"), name.WithDefaultRegistry(""), name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("%q is not REGISTRY/REPOSITORY:TAG: %w", reference, err)
	}
	return ref, nil
}

func remoteOptions(ctx context.Context, program string) []remote.Option {
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("breakwater/" + program), remote.WithTransport(onlySafe{transport})}
}

// onlySafe refuses plain HTTP to anything but this host: credentials would go
// over a wire that anybody can read, and the registry library tries it for
// private addresses.
type onlySafe struct{ next http.RoundTripper }

func (t onlySafe) RoundTrip(r *http.Request) (*http.Response, error) {
	if ip := net.ParseIP(r.URL.Hostname()); r.URL.Scheme != "https" && r.URL.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s: plain http is accepted from this host only; use https", r.URL.Redacted())
	}
	return t.next.RoundTrip(r)
}

// blob is a file as a layer.
type blob struct {
	path   string
	digest v1.Hash
	size   int64
	kind   types.MediaType
}

func newBlob(path string, kind types.MediaType) (blob, error) {
	digest, size, err := digestFile(path)
	return blob{path, v1.Hash{Algorithm: "sha256", Hex: digest}, size, kind}, err
}

func (b blob) Digest() (v1.Hash, error)             { return b.digest, nil }
func (b blob) DiffID() (v1.Hash, error)             { return b.digest, nil }
func (b blob) Size() (int64, error)                 { return b.size, nil }
func (b blob) MediaType() (types.MediaType, error)  { return b.kind, nil }
func (b blob) Compressed() (io.ReadCloser, error)   { return os.Open(b.path) }
func (b blob) Uncompressed() (io.ReadCloser, error) { return os.Open(b.path) }
