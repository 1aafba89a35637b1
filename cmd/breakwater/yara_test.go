//go:build yara && cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// TestYARA runs scripts in a build with YARA: rules are evaluated in the confined
// child of the command itself.
func TestYARA(t *testing.T) {
	images := writeImages(t)
	image := imagetest.Image{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("opt/gone.php", "<?php eval(base64_decode($_POST['x']));")),
		imagetest.Tar(t, imagetest.File("opt/.wh.gone.php", ""), imagetest.File("srv/app/static/img/shell.php", "GIF89a<?php eval(base64_decode($_POST['x']));")),
		imagetest.Tar(t, imagetest.File("srv/large.php", strings.Repeat("x", 9<<20)), imagetest.File("srv/also.php", strings.Repeat("x", 9<<20))),
	}}
	for name, form := range map[string]imagetest.Form{"shells.tar": imagetest.Old, "shells-oci.tar": imagetest.OCIGzip} {
		if err := os.WriteFile(filepath.Join(images, name), image.Archive(t, form), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/yara",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BREAKWATER_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("IMAGES", images)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}
