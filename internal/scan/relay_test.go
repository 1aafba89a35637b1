package scan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// finder is a Scanner that knows one text.
type finder struct {
	mu   sync.Mutex
	seen []int
}

func (f *finder) Scan(_ context.Context, content io.Reader) (string, bool, error) {
	data, err := io.ReadAll(content)
	if err != nil {
		return "", false, err
	}
	f.mu.Lock()
	f.seen = append(f.seen, len(data))
	f.mu.Unlock()
	if bytes.Contains(data, []byte("unreadable")) {
		return "", false, fmt.Errorf("%w: too many archives in archives", malware.ErrLimit)
	}
	if bytes.Contains(data, []byte("down")) {
		return "", false, errors.New("the engine is away")
	}
	return "Test.Bad", bytes.Contains(data, []byte("malicious")), nil
}

func (*finder) Engine() string   { return "finder" }
func (*finder) Version() string  { return "1" }
func (*finder) Describe() string { return "finder 1 of today" }

func TestMalwareScannerSeesEveryFile(t *testing.T) {
	large := strings.Repeat("filler ", 1<<20) + "malicious"
	i := imagetest.Image{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("etc/os-release", osRelease), imagetest.File("bin/bad", "malicious"), imagetest.File("large", large), imagetest.File("empty", "")),
		imagetest.Tar(t, imagetest.File("bin/.wh.bad", ""), imagetest.File("archive", "unreadable")),
	}}
	for _, target := range []string{
		"docker-archive:" + archive(t, i.Archive(t, imagetest.Old)),
		"oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCIGzip)),
	} {
		f := &finder{}
		rep := mustScan(t, scan.Options{Target: target, Malware: f})
		slices.SortFunc(rep.Malware, func(a, b event.Malware) int { return strings.Compare(a.Place.Path, b.Place.Path) })
		if len(rep.Malware) != 2 {
			t.Fatalf("%s: found %+v, gaps %q", target, rep.Malware, rep.Gaps)
		}
		bad, big := rep.Malware[0], rep.Malware[1]
		if bad.Name != "Test.Bad" || bad.Engine != "finder" || bad.Place.Kind != event.PlaceFile || bad.Place.Path != "bin/bad" || bad.Place.LayerIndex != 0 || !bad.Place.Deleted || bad.Place.Layer != rep.Layers[0].DiffID {
			t.Errorf("%s: %+v", target, bad)
		}
		if big.Place.Path != "large" || big.Place.Deleted {
			t.Errorf("%s: %+v", target, big)
		}
		if slices.Sort(f.seen); !slices.Contains(f.seen, len(large)) || slices.Contains(f.seen, 0) {
			t.Errorf("%s: saw files of %v bytes", target, f.seen)
		}
		if rep.Distro.ID != "debian" {
			t.Errorf("%s: a file that two want was read by one: %+v", target, rep.Distro)
		}
		if !slices.ContainsFunc(rep.Gaps, func(g string) bool {
			return strings.Contains(g, "layer 1: archive: malware: the malware engine's limit: too many archives in archives")
		}) || !slices.Contains(rep.Looked, "malware") || !slices.Equal(rep.Engines, []string{"finder 1 of today"}) {
			t.Errorf("%s: gaps %q, looked %q", target, rep.Gaps, rep.Looked)
		}
	}
}

// TestMalwareEngineThatFails: a file it did not answer about is told, malware
// counts as not looked for, and the layer is read again next time.
func TestMalwareEngineThatFails(t *testing.T) {
	cache, err := scan.OpenCache(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", "down"), imagetest.File("b", "malicious"))}}
	target := "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCIGzip))
	for range 2 {
		f := &finder{}
		rep := mustScan(t, scan.Options{Target: target, Malware: f, Cache: cache})
		if len(rep.Malware) != 1 || slices.Contains(rep.Looked, "malware") || len(f.seen) != 2 {
			t.Errorf("found %+v, looked %q, saw %d files", rep.Malware, rep.Looked, len(f.seen))
		}
		for _, want := range []string{"layer 0: a: malware: the engine is away", "malware was not looked for in every file"} {
			if !slices.ContainsFunc(rep.Gaps, func(g string) bool { return strings.Contains(g, want) }) {
				t.Errorf("gaps %q lack %q", rep.Gaps, want)
			}
		}
	}
}
