//go:build !yara || !cgo

package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestWithoutYARA runs scripts in a build without YARA.
func TestWithoutYARA(t *testing.T) {
	images := writeImages(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/noyara",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BREAKWATER_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("IMAGES", images)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}
