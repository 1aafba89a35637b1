package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestClamd runs scripts against a real ClamAV daemon.
func TestClamd(t *testing.T) {
	daemon := testenv.NeedClamd(t, 4<<20)
	images := writeImages(t)
	outer := nestedArchive(t, testenv.EICAR())
	for name, image := range map[string]imagetest.Image{
		"eicar.tar": {Layers: [][]byte{
			imagetest.Tar(t, imagetest.File("opt/outer.zip", outer), imagetest.File("opt/note.txt", "nothing")),
			imagetest.Tar(t, imagetest.File("opt/.wh.outer.zip", "")),
		}},
		"large.tar": {Layers: [][]byte{imagetest.Tar(t, imagetest.File("opt/a.bin", strings.Repeat("x", 20<<20)), imagetest.File("opt/z.zip", outer))}},
	} {
		if err := os.WriteFile(filepath.Join(images, name), image.Archive(t, imagetest.OCIGzip), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/clamd",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BREAKWATER_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("IMAGES", images)
			env.Setenv("CLAMD", daemon.Address)
			env.Setenv("CLAMD_SOCKET", daemon.Socket)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"kill-clamd": func(*testscript.TestScript, bool, []string) { daemon.Kill() },
		},
	})
}

// nestedArchive is a zip in a tar in a zip.
func nestedArchive(t *testing.T, text string) string {
	inner := zipOf(t, "a.txt", text)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "inner.zip", Size: int64(len(inner)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(inner)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return zipOf(t, "middle.tar", b.String())
}

func zipOf(t *testing.T, name, text string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
