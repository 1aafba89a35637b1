package main

import (
	"os"
	"path/filepath"
	"strings"
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
	secrets := imageWithSecrets(t)
	for name, data := range map[string][]byte{
		"app.tar": whole, "fixed.tar": fixed.Archive(t, imagetest.Old), "cut.tar": whole[:len(whole)/2], "none.tar": []byte("no archive at all"),
		"secrets.tar": secrets.Archive(t, imagetest.Old),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// imageWithSecrets has one of each kind of place; one is gone in the last layer.
func imageWithSecrets(t *testing.T) imagetest.Image {
	key := strings.Repeat("Zm9vQmFyK3F1eC9X", 8)
	return imagetest.Image{
		Layers: [][]byte{
			imagetest.Tar(t,
				imagetest.File("srv/app/.env", "MODE=production\nAWS_KEY=AKI"+"AQ2W3E4R5T6Y7U2I3\n"),
				imagetest.File("root/.ssh/id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\n"+key[:64]+"\n"+key[64:]+"\n")),
			imagetest.Tar(t, imagetest.File("root/.ssh/.wh.id_rsa", "")),
		},
		Config: func(c map[string]any) {
			c["config"] = map[string]any{"Env": []string{"PATH=/bin", "DB_PASSWORD=correct-horse-battery"}, "Labels": map[string]string{"maintainer": "someone"}}
			c["history"] = []any{
				map[string]any{"created_by": "COPY . /"},
				map[string]any{"created_by": "ARG NPM_TOKEN", "empty_layer": true},
				map[string]any{"created_by": "RUN |1 NPM_TOKEN=c2VjcmV0LXRv-a2VuLWhlcmU /bin/sh -c npm ci # buildkit"},
			}
		},
	}
}
