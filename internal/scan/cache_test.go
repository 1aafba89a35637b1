package scan_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

func openCache(t *testing.T, dir string, limit int64) *scan.Cache {
	t.Helper()
	c, err := scan.OpenCache(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// layersRead scans and says how many layers were read.
func layersRead(t *testing.T, o scan.Options) int {
	t.Helper()
	var last image.Progress
	o.Progress = func(p image.Progress) { last = p }
	checkSample(t, sample(t), mustScan(t, o))
	return last.Layers
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.layer"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestKnownLayersAreNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	layout := "oci-layout:" + imagetest.Write(t, t.TempDir(), sample(t).Layout(t, imagetest.OCI))
	if n := layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)}); n != 3 {
		t.Errorf("first: %d layers read", n)
	}
	if n := layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)}); n != 0 {
		t.Errorf("then: %d layers read", n)
	}
	// An archive of the same image: what is known of a diff id holds.
	file := archive(t, sample(t).Archive(t, imagetest.Old))
	if n := layersRead(t, scan.Options{Target: file, Cache: openCache(t, dir, 0)}); n != 0 {
		t.Errorf("archive: %d layers read", n)
	}
	if n := layersRead(t, scan.Options{Target: file, Verify: true, Cache: openCache(t, dir, 0)}); n != 3 {
		t.Errorf("archive, verified: %d layers read", n)
	}
	// Another image on the same base.
	other := sample(t)
	other.Layers = append(other.Layers[:2:2], imagetest.Tar(t, imagetest.File("x", "y")))
	var last image.Progress
	mustScan(t, scan.Options{Target: "oci-layout:" + imagetest.Write(t, t.TempDir(), other.Layout(t, imagetest.OCI)), Cache: openCache(t, dir, 0), Progress: func(p image.Progress) { last = p }})
	if last.Layers != 1 {
		t.Errorf("another image: %d layers read", last.Layers)
	}
}

// TestCompressedLayersAreKeptByTheirBlob: what its bytes are is known by their
// digest; that they unpack to the diff id is only the confined reader's word, on
// which nothing is kept for others that name it.
func TestCompressedLayersAreKeptByTheirBlob(t *testing.T) {
	plain := archive(t, sample(t).Archive(t, imagetest.Old))
	read := func(dir, target string, verify bool) int {
		t.Helper()
		return layersRead(t, scan.Options{Target: target, Verify: verify, Cache: openCache(t, dir, 0)})
	}
	layout := "oci-layout:" + imagetest.Write(t, t.TempDir(), sample(t).Layout(t, imagetest.OCIGzip))
	for name, first := range map[string]string{"a layout": layout, "an archive": "oci-archive:" + archive(t, sample(t).Archive(t, imagetest.OCIGzip))} {
		dir := t.TempDir()
		if n := read(dir, first, true); n != 3 {
			t.Errorf("%s, first: %d layers read", name, n)
		}
		if n := read(dir, layout, false); n != 0 {
			t.Errorf("%s, then the layout: %d layers read", name, n)
		}
		if n := read(dir, plain, false); n != 3 {
			t.Errorf("%s, then plain: %d layers read", name, n)
		}
	}
	// A whole archive that is compressed went by as a stream: nobody hashed it here.
	dir := t.TempDir()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(sample(t).Archive(t, imagetest.Old)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := read(dir, archive(t, zipped.Bytes()), true); n != 3 || len(entries(t, dir)) > 0 {
		t.Errorf("compressed as a whole: %d layers read, %d kept", n, len(entries(t, dir)))
	}
}

// TestADamagedBlobOfALayoutIsRefused: its file is hashed on this side of the
// confinement.
func TestADamagedBlobOfALayoutIsRefused(t *testing.T) {
	i := sample(t)
	dir := imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCI))
	blob := filepath.Join(dir, "blobs", "sha256", imagetest.Digest(i.Layers[1]))
	data := bytes.ReplaceAll(slices.Clone(i.Layers[1]), []byte("4.17.15"), []byte("4.17.21"))
	if err := os.WriteFile(blob, append(data, make([]byte, 512)...), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := t.TempDir()
	if _, err := scan.Image(t.Context(), scan.Options{Target: "oci-layout:" + dir, Cache: openCache(t, kept, 0)}); err == nil || !strings.Contains(err.Error(), "its content has the digest") {
		t.Errorf("a damaged blob: %v", err)
	}
}

// TestKnownIsTheSame: what is known gives the report that reading gave, also
// what the configuration says.
func TestKnownIsTheSame(t *testing.T) {
	dir := t.TempDir()
	i := sample(t)
	i.Config = func(c map[string]any) {
		c["config"] = map[string]any{"Env": []string{"AWS_ACCESS_KEY_ID=AKIA" + "QWERTYUIOPASDFGH"}}
	}
	layout := "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCI))
	var reports [2]*report.Report
	for n := range reports {
		o := scan.Options{Target: layout, Cache: openCache(t, dir, 0)}
		o.Look.Secrets = true
		reports[n] = mustScan(t, o)
		reports[n].Time, reports[n].Notes = time.Time{}, nil // of the reading, not of the image
	}
	first, err := json.Marshal(reports[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := json.Marshal(reports[1])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("read:\n%s\nknown:\n%s", first, second)
	}
	if len(reports[0].Misconfigurations) == 0 || len(reports[0].Secrets) == 0 {
		t.Errorf("found %+v, %+v", reports[0].Misconfigurations, reports[0].Secrets)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "*.config"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %q, %v", kept, err)
	}
	data, err := os.ReadFile(kept[0])
	if err != nil || bytes.Contains(data, []byte("QWERTYUIOPASDFGH")) {
		t.Errorf("the secret is kept: %v", err)
	}
}

// TestUncheckedLayersAreNotKept: an archive's word is no proof.
func TestUncheckedLayersAreNotKept(t *testing.T) {
	dir := t.TempDir()
	forged := bytes.ReplaceAll(sample(t).Archive(t, imagetest.Old), []byte("4.17.15"), []byte("4.17.21"))
	mustScan(t, scan.Options{Target: archive(t, forged), Cache: openCache(t, dir, 0)})
	if got := entries(t, dir); len(got) != 0 {
		t.Errorf("kept: %q", got)
	}
	folder := imagetest.Write(t, t.TempDir(), map[string][]byte{"a": []byte("b")})
	mustScan(t, scan.Options{Target: "dir:" + folder, Cache: openCache(t, dir, 0)})
	if got := entries(t, dir); len(got) != 0 {
		t.Errorf("a folder without a digest was kept: %q", got)
	}
	_ = mustScan(t, scan.Options{Target: archive(t, sample(t).Archive(t, imagetest.Old)), Verify: true, Cache: openCache(t, dir, 0)})
	if got := entries(t, dir); len(got) != 3 {
		t.Errorf("verified: kept %q", got)
	}
}

func TestDamagedCacheIsReadAnew(t *testing.T) {
	layout := "oci-layout:" + imagetest.Write(t, t.TempDir(), sample(t).Layout(t, imagetest.OCI))
	for name, damage := range map[string]func([]byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":       func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":   func([]byte) []byte { return nil },
		"exchanged": func([]byte) []byte { return []byte(strings.Repeat("BWLAYER2", 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)})
			for _, f := range entries(t, dir) {
				data, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if n := layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)}); n != 3 {
				t.Errorf("%d layers read", n)
			}
			if n := layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)}); n != 0 {
				t.Errorf("after that: %d layers read", n)
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		dir := t.TempDir()
		layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)})
		if err := os.WriteFile(filepath.Join(dir, "key"), []byte("short"), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := layersRead(t, scan.Options{Target: layout, Cache: openCache(t, dir, 0)}); n != 3 {
			t.Errorf("%d layers read", n)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	const limit = 16 << 10
	for n := range 12 {
		i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", strings.Repeat("x", n)), imagetest.File("app/node_modules/a/package.json", `{"name":"a","version":"1.0.0","license":"`+strings.Repeat("L", 2000)+`"}`))}}
		mustScan(t, scan.Options{Target: "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCI)), Cache: openCache(t, dir, limit)})
	}
	var total int64
	kept := entries(t, dir)
	for _, f := range kept {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > limit || len(kept) < 2 {
		t.Errorf("%d entries take %d bytes", len(kept), total)
	}
}

func TestCacheOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := scan.OpenCache(dir, 0); err == nil || !strings.Contains(err.Error(), "others may write there") {
		t.Errorf("got %v", err)
	}
	if files := entries(t, dir); !slices.Equal(files, nil) {
		t.Errorf("written: %q", files)
	}
}
