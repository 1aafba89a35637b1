package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Attached is what a repository holds about its images besides them, such as
// signatures. It is safe for concurrent use.
type Attached struct {
	host string
	rep  repository
}

// Attached opens the repository of a reference; it does not connect yet.
func (r *Registry) Attached(reference string) (*Attached, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("is no image reference: %w", err)
	}
	host := ref.Context().RegistryStr()
	p, err := r.puller(host)
	if err != nil {
		return nil, err
	}
	return &Attached{host: host, rep: repository{name: ref.Context(), puller: p}}, nil
}

// Manifest fetches a manifest by tag or digest, which it is checked against;
// nil when there is none.
func (a *Attached) Manifest(ctx context.Context, reference string) ([]byte, error) {
	var ref name.Reference = a.rep.name.Tag(reference)
	if _, err := digestHex(reference); err == nil {
		ref = a.rep.name.Digest(reference)
	}
	got, err := a.rep.puller.Get(ctx, ref)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, explainRegistry(a.host, err)
	}
	return got.Manifest, nil
}

// Blob fetches a blob of that size and checks it against its digest.
func (a *Attached) Blob(ctx context.Context, digest string, size int64) ([]byte, error) {
	blob, err := a.rep.open(ctx, Descriptor{Digest: digest, Size: size}, size)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

// Referrers lists the digests of the manifests that name that one as their
// subject: by the registry's referrers interface, or by the tag that stands for
// it where there is none (OCI distribution-spec 1.1).
func (a *Attached) Referrers(ctx context.Context, digest string) ([]string, error) {
	index, err := remote.Referrers(a.rep.name.Digest(digest), remote.Reuse(a.rep.puller), remote.WithContext(ctx))
	if err != nil {
		return nil, explainRegistry(a.host, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, explainRegistry(a.host, err)
	}
	var digests []string
	for _, d := range m.Manifests {
		digests = append(digests, d.Digest.String())
	}
	return digests, nil
}

// maxPlatforms is how many manifests of an index are looked at.
const maxPlatforms = 100

// Holds says whether the manifest or index of that digest is of the image whose
// configuration has that digest: names that come with an image prove nothing.
func (a *Attached) Holds(ctx context.Context, digest, config string) (bool, error) {
	var m struct {
		Config    struct{ Digest string }
		Manifests []struct{ Digest string }
	}
	read := func(digest string) error {
		m.Config.Digest, m.Manifests = "", nil
		data, err := a.Manifest(ctx, digest)
		if err != nil || data == nil {
			return err
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("manifest %s: %w", digest, err)
		}
		return nil
	}
	if err := read(digest); err != nil || m.Config.Digest == config {
		return err == nil, err
	}
	all := m.Manifests
	for _, one := range all[:min(len(all), maxPlatforms)] {
		if err := read(one.Digest); err != nil || m.Config.Digest == config {
			return err == nil, err
		}
	}
	return false, nil
}
