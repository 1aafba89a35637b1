package secret_test

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/secret"
)

// BenchmarkExamine reads the texts of a folder, BENCH_TREE or this repository:
// what a scan reads most is code without secrets.
func BenchmarkExamine(b *testing.B) {
	f, err := secret.New()
	if err != nil {
		b.Fatal(err)
	}
	files := map[string][]byte{}
	var size int64
	root := cmp.Or(os.Getenv("BENCH_TREE"), "../..")
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || size > 200<<20 {
			return nil
		}
		info, err := d.Info()
		if err != nil || !f.Wants("srv/"+path[len(root):], info.Size(), info.Mode()&0o111 != 0) {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil {
			files["srv/"+path[len(root):]] = data
			size += int64(len(data))
		}
		return nil
	})
	b.SetBytes(size)
	found := 0
	b.ResetTimer()
	for b.Loop() {
		found = 0
		for path, data := range files {
			c, err := f.Examine(path, data)
			if err != nil {
				b.Fatal(err)
			}
			found += len(c.Secrets)
		}
	}
	b.ReportMetric(float64(found), "found")
	b.ReportMetric(float64(len(files)), "files")
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := secret.New(); err != nil {
			b.Fatal(err)
		}
	}
}
