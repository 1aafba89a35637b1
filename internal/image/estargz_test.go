package image

import (
	"bytes"
	"compress/gzip"
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// TestEstargz: a layer of many gzip members, one a file, with an index as the
// last file and an empty member with an extra field as its footer (estargz's
// format document). For every reader but a lazy one it is a gzip layer.
func TestEstargz(t *testing.T) {
	tar := imagetest.Tar(t, imagetest.File("a", "one"), imagetest.File("b", "two"), imagetest.File("stargz.index.json", `{"version":1}`))
	var blob bytes.Buffer
	for part := range slices.Chunk(tar, 1024) {
		w := gzip.NewWriter(&blob)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	footer, err := gzip.NewWriterLevel(&blob, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	footer.Extra = []byte("SG\x16\x000000000000000400STARGZ")
	if err := footer.Close(); err != nil {
		t.Fatal(err)
	}
	sink := &collected{}
	layer, err := NewReader(t.Context(), Options{Verify: true}, 1).Blob(&blob, nil, 0, sink)
	if err != nil || !slices.Equal(sink.seen, []string{"a 0 one", "b 0 two", `stargz.index.json 0 {"version":1}`}) {
		t.Errorf("got %q, %v", sink.seen, err)
	}
	if layer.DiffID != "sha256:"+imagetest.Digest(tar) {
		t.Errorf("diff id %s", layer.DiffID)
	}
}
