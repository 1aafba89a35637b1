package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

func only(t *testing.T, dir, name, want string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Fatalf("the folder holds %v, %v", entries, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"one", "", "three"} {
		if err := durable.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		only(t, dir, "file", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestFailures: what could not be written leaves the file before and no rest.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.WriteFile(path, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := durable.Replace(path, []byte("bad"), func(*os.File) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	only(t, dir, "file", "good")
	if err := durable.WriteFile(filepath.Join(dir, "absent", "file"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := durable.WriteFile(dir, []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	only(t, dir, "file", "good")
}
