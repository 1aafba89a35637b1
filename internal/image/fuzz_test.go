package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// FuzzResolve: indexes and manifests of a registry that means harm. Everything
// that they name is served, with the right digest or without.
func FuzzResolve(f *testing.F) {
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(f, imagetest.File("a", "b"))}}
	m, blobs := i.OCIManifest(f, imagetest.OCI)
	index := imagetest.Index(f, m.WithPlatform("linux", "amd64", ""), m.WithName("app:1"))
	byDigest := map[string][]byte{}
	for _, b := range append(blobs, m, index) {
		byDigest["sha256:"+imagetest.Digest(b.Data)] = b.Data
	}
	f.Add(index.Data)
	f.Add(m.Data)
	f.Add([]byte(`{"schemaVersion":1}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:../../etc/passwd","platform":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fetch := func(_ context.Context, d Descriptor, _ int64) ([]byte, error) {
			if b := byDigest[d.Digest]; b != nil {
				return b, nil
			}
			return nil, errors.New("unknown")
		}
		r, err := Resolve(t.Context(), data, Choice{Platform: "linux/amd64"}, Limits{}, fetch)
		if err == nil && len(r.Blobs) != len(r.Layers) {
			t.Errorf("%d blobs, %d layers", len(r.Blobs), len(r.Layers))
		}
	})
}

// FuzzStorage: the index files of a storage that somebody else wrote.
func FuzzStorage(f *testing.F) {
	f.Add([]byte(`[{"id":"aa","names":["localhost/app:1"],"layer":"bb"}]`), []byte(`[{"id":"bb","parent":"cc","diff-digest":"sha256:00"},{"id":"cc"}]`))
	f.Add([]byte(`[{"id":"aa","names":["app:1"],"layer":"bb"}]`), []byte(`[{"id":"bb","parent":"bb"}]`))
	f.Add([]byte(`[{"id":"../../etc","names":["app:1"]}]`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, images, layers []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"overlay-images/images.json": images, "overlay-layers/layers.json": layers} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if src, err := (Storage{dir}).Open(t.Context(), "app:1"); err == nil {
			t.Errorf("opened an image without a configuration: %+v", src)
		}
	})
}

// FuzzPacket: entries from a parent that is not ours.
func FuzzPacket(f *testing.F) {
	p := packets{fd: -1}
	for _, e := range []Entry{{Path: "a", Kind: File, Size: 3, Mode: 0o644}, {Path: "b", Kind: Symlink, Link: "a"}, {Path: "c", Kind: Dir}} {
		if err := p.add(e, -1); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(p.buf)
	f.Add(p.buf[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		layer := Layer{Sink: ignore{}}
		var none []int
		_ = NewReader(t.Context(), Options{}, 1).packet(bytes.Clone(data), &none, &layer)
	})
}
