package imagetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Blob is one blob with its descriptor.
type Blob struct {
	Data       []byte
	Descriptor map[string]any
}

func blob(mediaType string, data []byte) Blob {
	return Blob{data, map[string]any{"mediaType": mediaType, "digest": "sha256:" + Digest(data), "size": len(data)}}
}

// OCIManifest gives the image's manifest and everything that it names.
func (i Image) OCIManifest(t testing.TB, form Form) (manifest Blob, blobs []Blob) {
	t.Helper()
	config := blob("application/vnd.oci.image.config.v1+json", i.ConfigJSON(t))
	blobs = append(blobs, config)
	mediaType := map[Form]string{OCI: "application/vnd.oci.image.layer.v1.tar", OCIGzip: "application/vnd.oci.image.layer.v1.tar+gzip", OCIZstd: "application/vnd.oci.image.layer.v1.tar+zstd"}[form]
	var layers []any
	for _, l := range i.Layers {
		b := blob(mediaType, Compress(t, l, form))
		blobs = append(blobs, b)
		layers = append(layers, b.Descriptor)
	}
	data := marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config.Descriptor, "layers": layers,
	})
	return blob("application/vnd.oci.image.manifest.v1+json", data), blobs
}

// Index is an index of manifests.
func Index(t testing.TB, manifests ...Blob) Blob {
	t.Helper()
	var list []any
	for _, m := range manifests {
		list = append(list, m.Descriptor)
	}
	return blob("application/vnd.oci.image.index.v1+json", marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list,
	}))
}

// WithPlatform adds a platform to a descriptor.
func (b Blob) WithPlatform(os, arch, variant string) Blob {
	p := map[string]any{"os": os, "architecture": arch}
	if variant != "" {
		p["variant"] = variant
	}
	return b.with("platform", p)
}

// WithName adds the annotation by which layouts name images.
func (b Blob) WithName(name string) Blob {
	return b.with("annotations", map[string]any{"org.opencontainers.image.ref.name": name})
}

func (b Blob) with(key string, value any) Blob {
	d := map[string]any{key: value}
	for k, v := range b.Descriptor {
		d[k] = v
	}
	return Blob{b.Data, d}
}

// LayoutFiles are the files of an OCI layout, by path.
func LayoutFiles(index Blob, blobs ...Blob) map[string][]byte {
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index.Data}
	for _, b := range blobs {
		files["blobs/sha256/"+Digest(b.Data)] = b.Data
	}
	return files
}

// Layout is one image as the files of an OCI layout.
func (i Image) Layout(t testing.TB, form Form) map[string][]byte {
	t.Helper()
	m, blobs := i.OCIManifest(t, form)
	named := m
	if len(i.Tags) > 0 {
		named = m.WithName(i.Tags[0])
	}
	return LayoutFiles(Index(t, named), append(blobs, m)...)
}

// Write puts files into a folder.
func Write(t testing.TB, dir string, files map[string][]byte) string {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Pack makes a tar archive of files.
func Pack(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var entries []Entry
	for name, data := range files {
		entries = append(entries, File(name, string(data)))
	}
	return Tar(t, entries...)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
