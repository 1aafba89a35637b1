// Package drivers is the explicit list of the inventory's drivers.
package drivers

import (
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/dpkg"
	"github.com/breakwater-sec/breakwater/internal/inventory/gobinary"
	"github.com/breakwater-sec/breakwater/internal/inventory/npm"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
)

// All makes an engine with every driver: one line each.
func All(key inventory.Key) *inventory.Engine {
	return inventory.NewEngine(key, osrelease.Reader{}, []inventory.Driver{
		dpkg.Driver{},
		npm.Driver{},
		gobinary.Driver{},
	})
}
