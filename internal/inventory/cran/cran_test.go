package cran_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/cran"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	description = "Package: commonmark\nVersion: 1.8.0\nTitle: High Performance\n    Version: 9\nLicense: BSD_2_clause + file LICENSE\nBuilt: R 4.2.2; x86_64-pc-linux-gnu; 2023-01-01 00:00:00 UTC; unix\n"
	base        = "Package: stats\nVersion: 4.2.2\nPriority: base\nBuilt: R 4.2.2; ; 2023; unix\n"
	renv        = `{"R":{"Version":"4.2.2"},"Packages":{"jsonlite":{"Package":"jsonlite","Version":"1.8.4","Source":"Repository","Repository":"CRAN"},"own":{"Package":"own","Version":"0.1","Source":"GitHub"}}}`
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, cran.Driver{}, []inventorytest.Case{
		{Path: "usr/local/lib/R/site-library/commonmark/DESCRIPTION", Content: []byte(description), Want: []string{"commonmark 1.8.0"}},
		{Path: "usr/lib/R/library/stats/DESCRIPTION", Content: []byte(base)},
	}, []string{"src/own/DESCRIPTION", "DESCRIPTION"})
	inventorytest.Run(t, cran.Locks{}, []inventorytest.Case{
		{Path: "app/renv.lock", Locked: true, Content: []byte(renv), Want: []string{"jsonlite 1.8.4"}},
	}, []string{"app/tests/renv.lock"})
}

func FuzzDescription(f *testing.F) {
	inventorytest.Fuzz(f, cran.Driver{}, "library/a/DESCRIPTION", description, base)
}
func FuzzLock(f *testing.F) { inventorytest.Fuzz(f, cran.Locks{}, "renv.lock", renv) }
