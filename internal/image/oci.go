package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Descriptor names one blob (OCI image-spec, descriptor.md). Docker's own
// manifest lists and manifests have the same shape.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant"`
	} `json:"platform"`

	isConfig bool // not a manifest: registries keep them apart
}

// document is an index or a manifest.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []Descriptor `json:"manifests"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

const (
	maxManifest = 4 << 20 // bytes; registries refuse larger ones
	maxIndexes  = 4       // indexes within indexes
	maxChoices  = 10_000  // images of one index
)

// Choice says which image of an index is wanted.
type Choice struct {
	Name     string // a tag or a digest; "" for the only one
	Platform string // os/arch[/variant]; "" for this program's own
}

// Fetch gives the blob that d names, at most limit bytes of it.
type Fetch func(ctx context.Context, d Descriptor, limit int64) ([]byte, error)

// Resolved is an image whose layers have not been read.
type Resolved struct {
	*Image              // its Layers hold diff ids and steps
	Blobs  []Descriptor // as many as layers
	Raw    []byte       // the manifest's own bytes
}

// digests are those of the layers' blobs.
func (r *Resolved) digests() []string {
	out := make([]string, len(r.Blobs))
	for i, d := range r.Blobs {
		out[i] = d.Digest
	}
	return out
}

// Resolve goes from an index or manifest to the image's configuration. Every
// blob on the way is of bounded size and must have the digest that named it.
//
// It runs in the process that talks to registries and engines, not in the
// confined one: what to fetch next stands in these documents. They are small
// JSON, read into plain structs and compared with digests; nothing is unpacked.
func Resolve(ctx context.Context, root []byte, c Choice, limits Limits, fetch Fetch) (*Resolved, error) {
	limits = limits.withDefaults()
	tag := ""
	for range maxIndexes {
		doc, err := parseDocument(root)
		if err != nil {
			return nil, err
		}
		if len(doc.Manifests) == 0 {
			r, err := doc.image(ctx, limits, fetch)
			if r != nil {
				r.Raw = root
				if tag != "" {
					r.Tags = []string{tag}
				}
			}
			return r, err
		}
		d, err := doc.choose(c)
		if err != nil {
			return nil, err
		}
		if name := d.name(); name != "" {
			tag = name
		}
		c.Name = "" // it has named this one; platforms may follow
		if root, err = checked(ctx, fetch, d, maxManifest); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("its indexes are nested too deep")
}

func parseDocument(data []byte) (*document, error) {
	var doc document
	if len(data) > maxManifest {
		return nil, &LimitError{"bytes in a manifest", maxManifest}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case doc.SchemaVersion == 1:
		return nil, errors.New("is in Docker's first manifest format, which engines no longer run; push the image again with a current engine")
	case len(doc.Manifests) > maxChoices:
		return nil, &LimitError{"images in an index", maxChoices}
	case len(doc.Manifests) == 0 && doc.Config.Digest == "":
		return nil, errors.New("names no image")
	case len(doc.Manifests) == 0 && !isImageConfig(doc.Config.MediaType):
		return nil, fmt.Errorf("is no container image but an artifact of type %s", doc.Config.MediaType)
	}
	return &doc, nil
}

func isImageConfig(mediaType string) bool {
	switch mediaType {
	case "", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json", "application/octet-stream":
		return true
	}
	return false
}

func (d *Descriptor) platform() string {
	if d.Platform == nil {
		return ""
	}
	p := d.Platform.OS + "/" + d.Platform.Architecture
	if v := d.Platform.Variant; v != "" && (d.Platform.Architecture != "arm64" || v != "v8") {
		p += "/" + v
	}
	return p
}

// name is what an index calls an image: the annotations of OCI layouts, of
// containerd and of Docker.
func (d *Descriptor) name() string {
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if v := d.Annotations[key]; v != "" {
			return v
		}
	}
	return ""
}

func (d *Descriptor) isCalled(name string) bool {
	if d.Digest == name {
		return true
	}
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		v := d.Annotations[key]
		if v != "" && (v == name || strings.HasSuffix(v, ":"+name) || strings.HasSuffix(v, "/"+name)) {
			return true
		}
	}
	return false
}

// choose picks by name first, then by platform. Attestations, which builders
// put beside images as platform unknown/unknown, are no images.
func (doc *document) choose(c Choice) (Descriptor, error) {
	all := slices.DeleteFunc(slices.Clone(doc.Manifests), func(d Descriptor) bool {
		return d.platform() == "unknown/unknown" || !isManifest(d.MediaType)
	})
	if c.Name != "" {
		named := slices.DeleteFunc(slices.Clone(all), func(d Descriptor) bool { return !d.isCalled(c.Name) })
		if len(named) == 0 {
			return Descriptor{}, fmt.Errorf("holds no image %q, only %s", c.Name, list(all, (*Descriptor).label))
		}
		all = named
	}
	if c.Platform == "" && len(all) == 1 {
		return all[0], nil
	}
	return byPlatform(all, c.Platform)
}

func byPlatform(all []Descriptor, want string) (Descriptor, error) {
	asked := want != ""
	if !asked {
		want = "linux/" + runtime.GOARCH
	}
	unnamed := 0
	for _, exact := range []bool{true, false} {
		for _, d := range all {
			if p := d.platform(); p == want || !exact && strings.HasPrefix(p, want+"/") {
				return d, nil
			}
		}
	}
	for _, d := range all {
		if d.Platform == nil {
			unnamed++
		}
	}
	switch {
	case len(all) == 1 && unnamed == 1: // its config will tell
		return all[0], nil
	case unnamed == len(all) && len(all) > 1:
		return Descriptor{}, fmt.Errorf("holds %d images; add the wanted one to the target after a colon: %s", len(all), list(all, (*Descriptor).label))
	case asked:
		return Descriptor{}, fmt.Errorf("is not there for %s, only for %s", want, list(all, (*Descriptor).platform))
	}
	return Descriptor{}, fmt.Errorf("is not there for %s; choose one with --platform: %s", want, list(all, (*Descriptor).platform))
}

func isManifest(mediaType string) bool {
	switch mediaType {
	case "", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json":
		return true
	}
	return false
}

func (d *Descriptor) label() string {
	if name := d.name(); name != "" {
		return name
	}
	return d.Digest
}

// list names the choices, at most 20.
func list(all []Descriptor, name func(*Descriptor) string) string {
	var names []string
	for i := range all {
		if len(names) == 20 {
			names = append(names, "…")
			break
		}
		if n := name(&all[i]); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

// image reads the configuration that a manifest names.
func (doc *document) image(ctx context.Context, limits Limits, fetch Fetch) (*Resolved, error) {
	if len(doc.Layers) > limits.Layers {
		return nil, &LimitError{"layers", int64(limits.Layers)}
	}
	for i, d := range doc.Layers {
		if _, err := digestHex(d.Digest); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	doc.Config.isConfig = true
	data, err := checked(ctx, fetch, doc.Config, limits.Metadata)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	img, err := parseConfig(manifest{Config: doc.Config.Digest, Layers: make([]string, len(doc.Layers))}, data, limits)
	if err != nil {
		return nil, err
	}
	return &Resolved{Image: img, Blobs: doc.Layers}, nil
}

// checked fetches a blob and holds it against its digest.
func checked(ctx context.Context, fetch Fetch, d Descriptor, limit int64) ([]byte, error) {
	want, err := digestHex(d.Digest)
	if err != nil {
		return nil, err
	}
	if d.Size > limit {
		return nil, &LimitError{"bytes in a manifest or config", limit}
	}
	data, err := fetch(ctx, d, limit)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &LimitError{"bytes in a manifest or config", limit}
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != want {
		return nil, fmt.Errorf("%s: its content has the digest sha256:%s: it is damaged or forged", d.Digest, got)
	}
	return data, nil
}

// digestHex is the hex part of a sha256 digest; it is safe as a file name.
func digestHex(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(h) != 64 || strings.ToLower(h) != h {
		return "", fmt.Errorf("digest %q: only sha256 digests are read", digest)
	}
	if _, err := hex.DecodeString(h); err != nil {
		return "", fmt.Errorf("digest %q: only sha256 digests are read", digest)
	}
	return h, nil
}
