package kernel_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv"
	"github.com/breakwater-sec/breakwater/internal/testenv/kernel"
)

// suites is the explicit list of what runs in guest kernels.
func suites() []kernel.Suite {
	return []kernel.Suite{
		{Package: "./internal/testenv/kernel", Run: "^TestKernel"},
		{Package: "./internal/probe", Run: "^TestKernel"},
	}
}

// TestGuests is `make kernel-test`: every suite in every guest.
func TestGuests(t *testing.T) {
	if os.Getenv("BREAKWATER_TEST_REQUIRE") != "1" {
		testenv.Missing(t, "guest kernels take minutes and fetch packages; `make kernel-test` runs them")
	}
	ctx := context.Background()
	lab, err := kernel.NewLab(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Fetch(ctx, "6.1", "6.12"); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := lab.Compile(ctx, root, t.TempDir(), suites())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range kernel.Guests() {
		t.Run(g.String(), func(t *testing.T) { runGuest(t, lab, g, initrd, suites()) })
	}
}

func runGuest(t *testing.T, lab *kernel.Lab, g kernel.Guest, initrd string, want []kernel.Suite) {
	results, err := lab.Boot(t.Context(), g, initrd, 5*time.Minute, io.Discard)
	if err != nil {
		t.Error(err)
	}
	for i, s := range want {
		if i >= len(results) || results[i].Package != s.Package {
			t.Errorf("%s did not begin", s.Package)
			continue
		}
		r := results[i]
		if err := r.Err(); err != nil {
			t.Errorf("%v\n%s", err, r.Output)
			continue
		}
		t.Logf("%s\n%s: %d passed, %d skipped", r.Output, r.Package, len(r.Passed), len(r.Skipped))
	}
}
