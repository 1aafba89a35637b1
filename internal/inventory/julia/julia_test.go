package julia_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/julia"
)

const (
	project  = "name = \"JSON\"\nuuid = \"682c06a0-de6a-54ab-a142-c8b1cf79cde6\"\nversion = \"0.21.4\"\n\n[deps]\nDates = \"ade2ca70-3891-5945-98fb-dc099432e06a\"\n"
	manifest = "julia_version = \"1.9.0\"\nmanifest_format = \"2.0\"\n\n[[deps.Dates]]\nuuid = \"ade2ca70-3891-5945-98fb-dc099432e06a\"\n\n[[deps.JSON]]\ndeps = [\"Dates\"]\ngit-tree-sha1 = \"0\"\nuuid = \"682c06a0-de6a-54ab-a142-c8b1cf79cde6\"\nversion = \"0.21.4\"\n\n    [deps.JSON.extensions]\n    version = \"9\"\n    uuid = \"9\"\n"
	old      = "[[JSON]]\nuuid = \"682c06a0-de6a-54ab-a142-c8b1cf79cde6\"\nversion = \"0.21.1\"\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, julia.Driver{}, []inventorytest.Case{
		{Path: "root/.julia/packages/JSON/93Ea8/Project.toml", Content: []byte(project), Want: []string{"JSON 0.21.4"}},
		{Path: "app/Manifest.toml", Locked: true, Content: []byte(manifest), Want: []string{"JSON 0.21.4"}},
		{Path: "old/Manifest.toml", Locked: true, Content: []byte(old), Want: []string{"JSON 0.21.1"}},
	}, []string{"app/Project.toml", "root/.julia/packages/JSON/93Ea8/Manifest.toml", "root/.julia/packages/JSON/93Ea8/test/Project.toml"})
}

func FuzzProject(f *testing.F) {
	inventorytest.Fuzz(f, julia.Driver{}, "packages/A/b/Project.toml", project)
}
func FuzzManifest(f *testing.F) {
	inventorytest.Fuzz(f, julia.Driver{}, "Manifest.toml", manifest, old)
}
