package workload_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/workload"
)

func TestBundleIsReadWhenNoEngineAnswers(t *testing.T) {
	root := t.TempDir()
	id := strings.Repeat("a", 64)
	dir := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/k8s.io", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := `{"annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.image-name":"registry.example/web:1"},
		"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"]}},
		"linux":{"namespaces":[{"type":"mount"},{"type":"network"}]}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := workload.Bundles{Root: root}.Inspect(id)
	if err != nil {
		t.Fatal(err)
	}
	c := found.Container
	if c.Engine != "containerd" || c.Name != "web" || c.Image.Name() != "registry.example/web:1" || !c.HostPID ||
		!slices.Equal(c.Capabilities, []string{"SYS_ADMIN"}) {
		t.Errorf("wrong description: %+v", c)
	}
}

func TestBundleErrors(t *testing.T) {
	root := t.TempDir()
	if _, err := (workload.Bundles{Root: root}).Inspect("abc"); !errors.Is(err, workload.ErrUnknown) {
		t.Errorf("absent bundle: got %v, want ErrUnknown", err)
	}
	for _, id := range []string{"", "../../etc", "a/b", "a*", strings.Repeat("x", 200)} {
		if _, err := (workload.Bundles{Root: root}).Inspect(id); err == nil || errors.Is(err, workload.ErrUnknown) {
			t.Errorf("id %q: got %v, want it refused as an id", id, err)
		}
	}
	dir := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/default/broken")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (workload.Bundles{Root: root}).Inspect("broken"); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("broken bundle: got %v, want an error naming the file", err)
	}
}
