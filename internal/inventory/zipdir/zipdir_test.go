package zipdir_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/zipdir"
)

func archive(t testing.TB, before string, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(before)
	w := zip.NewWriter(&b)
	for i, f := range files {
		h := &zip.FileHeader{Name: f[0], Method: zip.Deflate}
		if i%2 == 1 {
			h.Method = zip.Store
		}
		out, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func list(data []byte, budget int64) (string, error) {
	d, err := zipdir.Open(bytes.NewReader(data), int64(len(data)), budget)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = d.Each(func(name []byte) bool { return !bytes.HasPrefix(name, []byte("not")) }, func(e zipdir.Entry) error {
		if strings.HasSuffix(e.Name, ".zip") {
			inner, err := d.Nested(e, 1<<20)
			if err != nil {
				return err
			}
			return inner.Each(func([]byte) bool { return true }, func(e zipdir.Entry) error {
				fmt.Fprintf(&out, "inner %s;", e.Name)
				return nil
			})
		}
		data, err := d.Read(e, 1<<20)
		fmt.Fprintf(&out, "%s=%.20s;", e.Name, data)
		return err
	})
	return out.String(), err
}

func TestRead(t *testing.T) {
	inner := string(archive(t, "", [2]string{"x", "y"}))
	for _, before := range []string{"", "#!/bin/sh\nexec java -jar $0\n"} {
		data := archive(t, before, [2]string{"a", "deflated"}, [2]string{"b", "stored"}, [2]string{"not wanted", ""}, [2]string{"in.zip", inner}, [2]string{"packed.zip", inner})
		got, err := list(data, 1<<20)
		if want := "a=deflated;b=stored;inner x;inner x;"; got != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestManyEntries(t *testing.T) {
	files := make([][2]string, 70_000) // more than the old end record counts
	for i := range files {
		files[i] = [2]string{fmt.Sprintf("not-%d", i), ""}
	}
	files[69_999][0] = "last"
	if got, err := list(archive(t, "", files...), 1000); got != "last=;" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBounds(t *testing.T) {
	bomb := archive(t, "", [2]string{"zeros", strings.Repeat("\x00", 10<<20)})
	if _, err := list(bomb, 1<<30); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("an entry beyond the limit: %v", err)
	}
	two := archive(t, "", [2]string{"a", strings.Repeat("a", 600)}, [2]string{"b", strings.Repeat("b", 600)})
	if _, err := list(two, 1000); err == nil {
		t.Error("reads beyond the budget")
	}
	liar := bytes.ReplaceAll(archive(t, "", [2]string{"a", strings.Repeat("a", 100_000)}), []byte{0xa0, 0x86, 0x01, 0}, []byte{10, 0, 0, 0})
	if _, err := list(liar, 1<<20); err == nil {
		t.Error("an entry larger than it says gave no error")
	}
	if _, err := list([]byte("no zip"), 1); err == nil {
		t.Error("text is a zip")
	}
}

func FuzzOpen(f *testing.F) {
	data := archive(f, "", [2]string{"a", "deflated"}, [2]string{"b", "stored"}, [2]string{"c.zip", "x"})
	f.Add(data)
	f.Add(bytes.ReplaceAll(data, []byte{8, 0}, []byte{99, 0}))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = list(data, 1<<16) })
}
