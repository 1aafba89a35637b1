package image_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// quiet is a sink that looks at nothing.
type quiet struct{}

func (quiet) Visit(image.Entry, io.Reader) error { return nil }

// TestProofBelievesNoReader: a reader that was taken over by a layer says of
// another image's layer that it read it, of other bytes that they are it, or of
// another configuration that it is this one's.
func TestProofBelievesNoReader(t *testing.T) {
	i := imagetest.Image{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("etc/motd", "base")), imagetest.Tar(t, imagetest.File("srv/app", "evil"))}}
	for _, form := range []imagetest.Form{imagetest.Old, imagetest.OCI, imagetest.OCIGzip} {
		data := i.Archive(t, form)
		read := func() *image.Image {
			t.Helper()
			img, err := image.ReadArchive(t.Context(), bytes.NewReader(data), int64(len(data)), image.Options{Verify: true, Apart: true}, func() image.Sink { return quiet{} })
			if err != nil {
				t.Fatal(err)
			}
			return img
		}
		proof := func(img *image.Image) ([]string, error) {
			return image.Proof(t.Context(), bytes.NewReader(data), int64(len(data)), img, image.Limits{})
		}
		honest := read()
		digests, err := proof(honest)
		if err != nil || len(digests) != 2 {
			t.Fatalf("%v: an honest reader: %v %v", form, digests, err)
		}
		if plain := form != imagetest.OCIGzip; plain != (digests[0] == honest.Layers[0].DiffID) || plain != honest.Layers[0].Plain {
			t.Errorf("%v: proven by %q", form, digests)
		}
		lies := map[string]func(*image.Image){
			"another diff id":     func(img *image.Image) { img.Layers[1].DiffID = "sha256:" + strings.Repeat("ab", 32) },
			"a layer more":        func(img *image.Image) { img.Layers = append(img.Layers, img.Layers[0]) },
			"another image":       func(img *image.Image) { img.Digest = "sha256:" + strings.Repeat("cd", 32) },
			"outside":             func(img *image.Image) { img.Layers[0].At.Offset = int64(len(data)) },
			"before":              func(img *image.Image) { img.Layers[0].At.Offset = -1 },
			"too long":            func(img *image.Image) { img.Layers[0].At.Size = 1 << 62 },
			"nowhere":             func(img *image.Image) { img.Layers[0].At = image.Extent{} },
			"no config":           func(img *image.Image) { img.ConfigAt = img.Layers[0].At },
			"a config of all":     func(img *image.Image) { img.ConfigAt = image.Extent{Size: int64(len(data))} },
			"a config of nothing": func(img *image.Image) { img.ConfigAt = image.Extent{} },
		}
		if form != imagetest.OCIGzip {
			lies["other bytes"] = func(img *image.Image) { img.Layers[0].At = img.Layers[1].At }
		}
		for name, lie := range lies {
			img := read()
			lie(img)
			if _, err := proof(img); err == nil {
				t.Errorf("%v: %s is believed", form, name)
			}
		}
	}
	// Of compressed bytes the reader says what they unpack to; they are kept under
	// their own digest all the same.
	data := i.Archive(t, imagetest.OCIGzip)
	img, err := image.ReadArchive(t.Context(), bytes.NewReader(data), int64(len(data)), image.Options{Verify: true, Apart: true}, func() image.Sink { return quiet{} })
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := image.Proof(t.Context(), bytes.NewReader(data), int64(len(data)), img, image.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	img.Layers[0].At = img.Layers[1].At
	if moved, err := image.Proof(t.Context(), bytes.NewReader(data), int64(len(data)), img, image.Limits{}); err != nil || moved[0] != genuine[1] {
		t.Errorf("%q %v", moved, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := image.Proof(ended, bytes.NewReader(data), int64(len(data)), img, image.Limits{}); err == nil {
		t.Error("it goes on when nobody waits")
	}
}
