package probe_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/probe"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestMain makes the test binary its own canary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "canary" {
		if err := probe.Canary(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options() probe.Options { return probe.Options{Canary: []string{"canary"}} }

func TestKernelDoctor(t *testing.T) {
	testenv.NeedRoot(t)
	d := probe.Run(t.Context(), options())
	var b bytes.Buffer
	probe.WriteTable(&b, d)
	t.Logf("\n%s", b.String())
}
