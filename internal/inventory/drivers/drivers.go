// Package drivers is the explicit list of the inventory's drivers.
package drivers

import (
	"sync"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/cargo"
	"github.com/breakwater-sec/breakwater/internal/inventory/composer"
	"github.com/breakwater-sec/breakwater/internal/inventory/conda"
	"github.com/breakwater-sec/breakwater/internal/inventory/dotnet"
	"github.com/breakwater-sec/breakwater/internal/inventory/dpkg"
	"github.com/breakwater-sec/breakwater/internal/inventory/executable"
	"github.com/breakwater-sec/breakwater/internal/inventory/gem"
	"github.com/breakwater-sec/breakwater/internal/inventory/gomod"
	"github.com/breakwater-sec/breakwater/internal/inventory/npm"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
	"github.com/breakwater-sec/breakwater/internal/inventory/python"
)

// All makes an engine with every driver: one line each.
func All(key inventory.Key) *inventory.Engine {
	known := sync.OnceValue(program.Embedded)
	return inventory.NewEngine(key, osrelease.Reader{}, []inventory.Driver{
		dpkg.Driver{},

		npm.Driver{},
		npm.Cache{},
		npm.Locks{},
		python.Driver{},
		python.Locks{},
		conda.Driver{},
		conda.Locks{},
		gem.Driver{},
		gem.Locks{},
		composer.Driver{},
		composer.Locks{},
		dotnet.Driver{},
		dotnet.Locks{},
		cargo.Locks{},
		gomod.Driver{},

		program.NewTexts(known),
		executable.New(known),
	})
}
