package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// writeImages makes the archives that scripts scan, in $IMAGES.
func writeImages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	app := imagetest.Image{
		Tags: []string{"app:1"},
		Layers: [][]byte{
			imagetest.Tar(t,
				imagetest.File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
				imagetest.File("var/lib/dpkg/status", "Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.9-1\n\n")),
			imagetest.Tar(t, imagetest.File("app/node_modules/lodash/package.json", `{"name":"lodash","version":"4.17.15"}`)),
		},
		Config: func(c map[string]any) { c["config"] = map[string]any{"User": ""} },
	}
	fixed := app
	fixed.Tags = []string{"app:2"}
	fixed.Config = nil
	whole := app.Archive(t, imagetest.OCI)
	for name, data := range map[string][]byte{
		"app.tar": whole, "fixed.tar": fixed.Archive(t, imagetest.Old), "cut.tar": whole[:len(whole)/2], "none.tar": []byte("no archive at all"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
