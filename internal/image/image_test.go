package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// record keeps what a layer held.
type record struct {
	entries []image.Entry
	content map[string]string
}

func (r *record) Visit(e image.Entry, content io.Reader) error {
	r.entries = append(r.entries, e)
	if content != nil && e.Size < 1<<20 {
		data, err := io.ReadAll(content)
		if err != nil {
			return nil //nolint:nilerr // as the inventory: a gap, no end
		}
		r.content[e.Path] = string(data)
	}
	return nil
}

func newRecord() image.Sink { return &record{content: map[string]string{}} }

// read reads both ways and checks that they agree.
func read(t testing.TB, archive []byte, o image.Options) (*image.Image, error) {
	t.Helper()
	o.Verify = true
	img, err := image.ReadArchive(context.Background(), bytes.NewReader(archive), int64(len(archive)), o, newRecord)
	if err == nil {
		o.Verify = false
		quick, err := image.ReadArchive(context.Background(), bytes.NewReader(archive), int64(len(archive)), o, newRecord)
		if err != nil || describe(quick) != describe(img) {
			t.Fatalf("without hashing: %v", err)
		}
		o.Verify = true
	}
	streamed, streamErr := image.ReadStream(context.Background(), bytes.NewReader(archive), o, newRecord)
	if (err == nil) != (streamErr == nil) {
		t.Fatalf("by offsets: %v; as a stream: %v", err, streamErr)
	}
	if err == nil && describe(img) != describe(streamed) {
		t.Fatalf("by offsets:\n%s\nas a stream:\n%s", describe(img), describe(streamed))
	}
	return img, err
}

func describe(img *image.Image) string {
	var b strings.Builder
	fmt.Fprintln(&b, img.Digest, img.Platform, img.Tags)
	for _, l := range img.Layers {
		r := l.Sink.(*record)
		fmt.Fprintln(&b, l.DiffID, l.Step, l.Size, l.Files, r.entries, r.content)
	}
	return b.String()
}

func sample(t testing.TB) imagetest.Image {
	return imagetest.Image{
		Tags: []string{"sample:1"},
		Layers: [][]byte{
			imagetest.Tar(t, imagetest.Dir("etc"), imagetest.File("./etc/a", "one"), imagetest.Symlink("etc/l", "../../../../etc/passwd")),
			imagetest.Tar(t, imagetest.File("/etc/b", strings.Repeat("two", 100_000)), imagetest.File("etc/.wh.a", "")),
			imagetest.Tar(t),
		},
	}
}

func TestReadsEveryForm(t *testing.T) {
	for _, form := range imagetest.Forms() {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v manifest first %v", form, first), func(t *testing.T) {
				sample := sample(t)
				sample.ManifestFirst = first
				img, err := read(t, sample.Archive(t, form), image.Options{})
				if err != nil {
					t.Fatal(err)
				}
				checkSample(t, sample, img)
			})
		}
	}
}

func checkSample(t *testing.T, sample imagetest.Image, img *image.Image) {
	t.Helper()
	if want := "sha256:" + imagetest.Digest(sample.ConfigJSON(t)); img.Digest != want {
		t.Errorf("digest %s, want %s", img.Digest, want)
	}
	if img.Platform != "linux/amd64" || img.Config.Config.User != "10001" || !slices.Equal(img.Tags, sample.Tags) || len(img.Layers) != 3 {
		t.Errorf("got %+v", img)
	}
	if l := img.Layers[1]; l.Step != "STEP 1" || l.Files != 2 || l.Size != int64(len(sample.Layers[1])) {
		t.Errorf("layer 1: %+v", l)
	}
	if got := img.Layers[0].Sink.(*record).content["etc/a"]; got != "one" {
		t.Errorf("etc/a: %q", got)
	}
}

func TestCompressedAsAWhole(t *testing.T) {
	sample := sample(t)
	img, err := read(t, sample.Archive(t, imagetest.Old), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	squeezed := imagetest.Compress(t, sample.Archive(t, imagetest.Old), imagetest.OCIGzip)
	got, err := image.ReadArchive(t.Context(), bytes.NewReader(squeezed), int64(len(squeezed)), image.Options{}, newRecord)
	if err != nil || describe(got) != describe(img) {
		t.Errorf("%v", err)
	}
}

// TestSharedLayer: older engines write a layer that occurs twice as a symlink.
func TestSharedLayer(t *testing.T) {
	sample := sample(t)
	sample.Layers[2] = sample.Layers[0]
	entries := sample.Entries(t, imagetest.Old)
	for i, e := range entries {
		if e.Name == fmt.Sprintf("%064d/layer.tar", 2) {
			entries[i] = imagetest.Symlink(e.Name, fmt.Sprintf("../%064d/layer.tar", 0))
		}
	}
	img, err := read(t, imagetest.Tar(t, entries...), image.Options{})
	if err != nil || img.Layers[2].DiffID != img.Layers[0].DiffID {
		t.Fatalf("%v", err)
	}
}

func TestSeveralImages(t *testing.T) {
	a, b := sample(t), sample(t)
	b.Tags, b.Layers = []string{"other:2"}, b.Layers[:1]
	var entries []imagetest.Entry
	var manifests []string
	for _, i := range []imagetest.Image{a, b} {
		for _, e := range i.Entries(t, imagetest.OCI) {
			switch {
			case e.Name == "manifest.json":
				manifests = append(manifests, strings.Trim(string(e.Body), "[]"))
			case !slices.ContainsFunc(entries, func(o imagetest.Entry) bool { return o.Name == e.Name }):
				entries = append(entries, e)
			}
		}
	}
	archive := imagetest.Tar(t, append(entries, imagetest.File("manifest.json", "["+strings.Join(manifests, ",")+"]"))...)
	if _, err := read(t, archive, image.Options{}); err == nil || !strings.Contains(err.Error(), "sample:1, other:2") {
		t.Errorf("without a name: %v", err)
	}
	if _, err := read(t, archive, image.Options{Want: "x"}); err == nil || !strings.Contains(err.Error(), `no image "x"`) {
		t.Errorf("wrong name: %v", err)
	}
	for _, want := range []string{"other:2", "sha256:" + imagetest.Digest(b.ConfigJSON(t))} {
		if img, err := read(t, archive, image.Options{Want: want}); err != nil || len(img.Layers) != 1 {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestHostileArchives: each is refused with a clear sentence.
func TestHostileArchives(t *testing.T) {
	good := sample(t)
	replace := func(name string, with ...imagetest.Entry) []byte {
		var out []imagetest.Entry
		for _, e := range good.Entries(t, imagetest.Old) {
			if strings.HasSuffix(e.Name, name) {
				for _, w := range with {
					w.Name = e.Name
					out = append(out, w)
				}
				continue
			}
			out = append(out, e)
		}
		return imagetest.Tar(t, out...)
	}
	layer0 := fmt.Sprintf("%064d/layer.tar", 0)
	bare := imagetest.Digest(good.ConfigJSON(t)) + ".json"
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"empty":               {nil, "manifest.json"},
		"no archive":          {bytes.Repeat([]byte("no tar "), 1000), "not a tar archive"},
		"no manifest":         {replace("manifest.json"), "manifest.json"},
		"bad manifest":        {replace("manifest.json", imagetest.File("", `[{"Config":`)), "manifest.json"},
		"empty manifest":      {replace("manifest.json", imagetest.File("", `[]`)), "no image"},
		"two manifests":       {replace("manifest.json", imagetest.File("", "[]"), imagetest.File("", "[]")), "more than once"},
		"missing layer":       {replace(layer0), "missing"},
		"two of a layer":      {replace(layer0, imagetest.File("", "x"), imagetest.File("", "y")), "more than once"},
		"another layer":       {replace(layer0, imagetest.File("", string(good.Layers[1]))), "damaged or forged"},
		"layer is no archive": {replace(layer0, imagetest.File("", strings.Repeat("x", 5000))), "layer 0"},
		"changed config":      {replace(bare, imagetest.File("", "{}")), "damaged or forged"},
		"link out":            {replace(layer0, imagetest.Symlink("", "../../../../etc/passwd")), "missing"},
		"link to itself":      {replace(layer0, imagetest.Symlink("", "layer.tar")), "too many links"},
		"traversal in names":  {replace("manifest.json", imagetest.File("", `[{"Config":"../../etc/passwd","Layers":[]}]`)), "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, c.archive, image.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestTruncatedAnywhere(t *testing.T) {
	good := sample(t).Archive(t, imagetest.Old)
	last := bytes.LastIndex(good, []byte("manifest.json"))
	for n := 0; n < len(good); n += 997 {
		_, err := image.ReadArchive(t.Context(), bytes.NewReader(good[:n]), int64(n), image.Options{}, newRecord)
		_, streamErr := image.ReadStream(t.Context(), bytes.NewReader(good[:n]), image.Options{}, newRecord)
		if n < last && (err == nil || streamErr == nil) {
			t.Fatalf("cut after %d of %d bytes: %v, %v", n, len(good), err, streamErr)
		}
	}
}

func TestHostileEntryNames(t *testing.T) {
	layer := imagetest.Tar(t,
		imagetest.File("../../../etc/passwd", "x"), imagetest.File("a/../../b", "x"), imagetest.File("//c//d", "x"),
		imagetest.File("./e/./f", "x"), imagetest.Dir("."), imagetest.File(strings.Repeat("d/", 300)+"deep", "x"),
		imagetest.File(strings.Repeat("x", 5000), "x"),
		imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8}},
		imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}},
	)
	img, err := read(t, imagetest.Image{Layers: [][]byte{layer}}.Archive(t, imagetest.Old), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range img.Layers[0].Sink.(*record).entries {
		got = append(got, e.Path)
	}
	if want := []string{"etc/passwd", "b", "c/d", "e/f", "dev/sda", "pipe"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(img.Gaps) != 1 || !strings.HasPrefix(img.Gaps[0], "2 files") {
		t.Errorf("gaps %q", img.Gaps)
	}
}

func TestLimits(t *testing.T) {
	archive := sample(t).Archive(t, imagetest.OCIGzip)
	for name, l := range map[string]image.Limits{
		"entries": {Entries: 2}, "bytes": {Bytes: 10_000}, "layers": {Layers: 1},
	} {
		_, err := read(t, archive, image.Options{Limits: l})
		var limit *image.LimitError
		if !errors.As(err, &limit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(t, archive, image.Options{Limits: image.Limits{Metadata: 10}}); err == nil || !strings.Contains(err.Error(), "larger than 10") {
		t.Errorf("metadata: %v", err)
	}
}

// sparse is a layer with one file of zeros, compressed without making it.
func zeroLayer(t testing.TB, size int64) []byte {
	var buf bytes.Buffer
	z, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: size, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(block)) {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || z.Close() != nil {
		t.Fatal("close")
	}
	return buf.Bytes()
}

func TestZipBombStopsAtTheLimit(t *testing.T) {
	blob := zeroLayer(t, 256<<20)
	manifest := `[{"Config":"c.json","Layers":["l.tar"]}]`
	config := `{"rootfs":{"diff_ids":["sha256:0"]}}`
	archive := imagetest.Tar(t, imagetest.File("l.tar", string(blob)), imagetest.File("c.json", config), imagetest.File("manifest.json", manifest))
	_, err := read(t, archive, image.Options{Limits: image.Limits{Bytes: 64 << 20}})
	var limit *image.LimitError
	if !errors.As(err, &limit) || len(archive) > 2<<20 {
		t.Errorf("archive of %d bytes: %v", len(archive), err)
	}
}

func TestHundredThousandEntries(t *testing.T) {
	entries := make([]imagetest.Entry, 100_000)
	for i := range entries {
		entries[i] = imagetest.File(fmt.Sprintf("many/%d/%d", i/1000, i), "")
	}
	img, err := read(t, imagetest.Image{Layers: [][]byte{imagetest.Tar(t, entries...)}}.Archive(t, imagetest.OCI), image.Options{})
	if err != nil || img.Layers[0].Files != 100_000 {
		t.Fatalf("%v", err)
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	archive := sample(t).Archive(t, imagetest.Old)
	if _, err := image.ReadArchive(ctx, bytes.NewReader(archive), int64(len(archive)), image.Options{}, newRecord); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	small := imagetest.Image{Layers: [][]byte{imagetest.Tar(f, imagetest.File("a", "b"))}, Tags: []string{"t"}}
	for _, form := range imagetest.Forms() {
		f.Add(small.Archive(f, form))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := image.Limits{Entries: 1000, Bytes: 1 << 20, Metadata: 1 << 16}
		_, _ = image.ReadArchive(t.Context(), bytes.NewReader(data), int64(len(data)), image.Options{Limits: limits}, newRecord)
		_, _ = image.ReadArchive(t.Context(), bytes.NewReader(data), int64(len(data)), image.Options{Limits: limits, Verify: true}, newRecord)
		_, _ = image.ReadStream(t.Context(), bytes.NewReader(data), image.Options{Limits: limits}, newRecord)
	})
}

func FuzzCleanPath(f *testing.F) {
	f.Add("../a/./b//c/..")
	f.Fuzz(func(t *testing.T, name string) {
		p := image.CleanPath(name)
		if p == ".." || strings.HasPrefix(p, "../") || strings.HasPrefix(p, "/") || strings.Contains(p, "/../") || image.CleanPath(p) != p {
			t.Errorf("%q became %q", name, p)
		}
	})
}
