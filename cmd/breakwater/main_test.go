package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakwater-sec/breakwater/internal/scan"
)

// TestMain makes the real main available to scripts as "breakwater".
func TestMain(m *testing.M) {
	if scan.IsReader(os.Args) { // the confined child of a scan within a test
		main()
	}
	testscript.Main(m, map[string]func(){"breakwater": main, "without": withoutMain})
}

// TestScripts runs the command line as people do: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	images := writeImages(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Nothing of this machine: state goes to the script's own folder,
			// advisories come from the project's own mirror.
			mirror, err := filepath.Abs("../../internal/intel/testdata/mirror")
			env.Setenv("BREAKWATER_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("MIRROR", "file://"+mirror)
			env.Setenv("IMAGES", images)
			env.Setenv("FINGERPRINT", strings.Repeat("ab", 32))
			return err
		},
		Condition: func(c string) (bool, error) {
			if c != "root" {
				return false, fmt.Errorf("no condition %q", c)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits is a script command, "exits CODE PROGRAM ARG…": the program must end
// with exactly that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}
