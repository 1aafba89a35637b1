package gomod_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/gomod"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const text = "module example.org/app\n\ngo 1.22\n\nrequire (\n\tgithub.com/BurntSushi/toml v1.0.0\n\texample.org/b v1.2.3 // indirect\n\texample.org/c v0.1.0\n)\n\nreplace example.org/b => example.org/fork v1.2.4\n\nreplace example.org/c v0.1.0 => ./c\n"

func TestConformance(t *testing.T) {
	inventorytest.Run(t, gomod.Driver{}, []inventorytest.Case{
		{Path: "src/go.mod", Locked: true, Content: []byte(text), Want: []string{"github.com/BurntSushi/toml v1.0.0", "example.org/fork v1.2.4", "example.org/c v0.1.0"}},
	}, []string{"root/go/pkg/mod/example.org/a@v1/go.mod", "src/vendor/a/go.mod", "src/go.sum"})
}

func FuzzExtract(f *testing.F) { inventorytest.Fuzz(f, gomod.Driver{}, "go.mod", text) }
