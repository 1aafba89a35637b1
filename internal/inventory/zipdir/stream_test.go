package zipdir_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/zipdir"
)

func streamed(data []byte, budget int64) (string, error) {
	var out strings.Builder
	err := zipdir.Stream(struct{ io.Reader }{bytes.NewReader(data)}, budget, func(name []byte) bool { return !bytes.HasPrefix(name, []byte("not")) },
		func(name string, read func(int64) ([]byte, error)) error {
			data, err := read(1 << 20)
			fmt.Fprintf(&out, "%s=%.20s;", name, data)
			return err
		})
	return out.String(), err
}

// sized is an archive whose entries have their sizes before them.
func sized(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.CreateRaw(&zip.FileHeader{Name: f[0], Method: zip.Store, CompressedSize64: uint64(len(f[1])), UncompressedSize64: uint64(len(f[1]))})
		if err == nil {
			_, err = out.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deflated(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.Create(f[0])
		if err == nil {
			_, err = out.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStream(t *testing.T) {
	files := [][2]string{{"a", "first"}, {"not this", strings.Repeat("x", 300_000)}, {"empty", ""}, {"z", "last"}}
	for name, data := range map[string][]byte{"sizes before": sized(t, files...), "sizes behind": deflated(t, files...)} {
		if got, err := streamed(data, 1<<20); got != "a=first;empty=;z=last;" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if _, err := streamed(data[:len(data)/3], 1<<20); err == nil {
			t.Errorf("%s: a third of it gives no error", name)
		}
	}
	if _, err := streamed(deflated(t, files...), 1000); err == nil {
		t.Error("reads beyond the budget")
	}
	if _, err := streamed([]byte("no zip"), 1000); err == nil {
		t.Error("text is a zip")
	}
}

func FuzzStream(f *testing.F) {
	f.Add(sized(f, [2]string{"a", "b"}))
	f.Add(deflated(f, [2]string{"a", "b"}, [2]string{"not", "c"}))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = streamed(data, 1<<16) })
}
