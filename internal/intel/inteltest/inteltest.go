// Package inteltest serves the project's small mirror of advisory sources, for
// tests of whatever needs an intelligence bundle.
package inteltest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/intel"
)

// Mirror is the folder of the mirror: see its README.md.
func Mirror(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd() // go test runs in the package's folder
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "internal", "intel", "testdata", "mirror")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// Serve serves the mirror on loopback until the test ends and returns what
// intel.Options.Source takes.
func Serve(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(Mirror(t))))
	t.Cleanup(server.Close)
	return server.URL
}

// Data makes a data folder with a bundle of the mirror and returns the folder.
func Data(t testing.TB) string {
	t.Helper()
	data := t.TempDir()
	if _, err := intel.Build(context.Background(), intel.Options{Data: data, Source: Serve(t), Program: "test"}); err != nil {
		t.Fatal(err)
	}
	return data
}
