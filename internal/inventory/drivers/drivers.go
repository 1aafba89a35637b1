// Package drivers is the explicit list of the inventory's drivers.
package drivers

import (
	"sync"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/apk"
	"github.com/breakwater-sec/breakwater/internal/inventory/bitnami"
	"github.com/breakwater-sec/breakwater/internal/inventory/cargo"
	"github.com/breakwater-sec/breakwater/internal/inventory/composer"
	"github.com/breakwater-sec/breakwater/internal/inventory/conan"
	"github.com/breakwater-sec/breakwater/internal/inventory/conda"
	"github.com/breakwater-sec/breakwater/internal/inventory/cran"
	"github.com/breakwater-sec/breakwater/internal/inventory/dotnet"
	"github.com/breakwater-sec/breakwater/internal/inventory/dpkg"
	"github.com/breakwater-sec/breakwater/internal/inventory/executable"
	"github.com/breakwater-sec/breakwater/internal/inventory/gem"
	"github.com/breakwater-sec/breakwater/internal/inventory/gomod"
	"github.com/breakwater-sec/breakwater/internal/inventory/haskell"
	"github.com/breakwater-sec/breakwater/internal/inventory/hex"
	"github.com/breakwater-sec/breakwater/internal/inventory/jar"
	"github.com/breakwater-sec/breakwater/internal/inventory/julia"
	"github.com/breakwater-sec/breakwater/internal/inventory/luarocks"
	"github.com/breakwater-sec/breakwater/internal/inventory/maven"
	"github.com/breakwater-sec/breakwater/internal/inventory/npm"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
	"github.com/breakwater-sec/breakwater/internal/inventory/perl"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
	"github.com/breakwater-sec/breakwater/internal/inventory/pub"
	"github.com/breakwater-sec/breakwater/internal/inventory/python"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm"
	"github.com/breakwater-sec/breakwater/internal/inventory/swift"
	"github.com/breakwater-sec/breakwater/internal/inventory/wordpress"
)

// All makes an engine with every driver: one line each.
func All(key inventory.Key) *inventory.Engine {
	known := sync.OnceValue(program.Embedded)
	return inventory.NewEngine(key, osrelease.Reader{}, []inventory.Driver{
		dpkg.Driver{},
		apk.Driver{},
		rpm.Driver{},

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
		jar.New(sync.OnceValue(jar.EmbeddedGroups)),
		maven.Locks{},
		swift.Locks{},
		pub.Locks{},
		hex.Driver{},
		hex.Locks{},
		conan.Locks{},
		haskell.Driver{},
		haskell.Locks{},
		cran.Driver{},
		cran.Locks{},
		julia.Driver{},
		perl.Driver{},
		luarocks.Driver{},
		bitnami.Driver{},
		wordpress.Driver{},

		program.NewTexts(known),
		executable.New(known),
	})
}
